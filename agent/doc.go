// Package agent is what makes a machine a node of the cluster: it holds a
// session with a manager, runs the tasks that the managers assign, and reports
// what becomes of them.
//
// Agent owns everything; Run blocks until its context ends and then leaves the
// tasks running, so that the next Run adopts them. Leave stops them first.
//
//   - The session is one at a time: its message stream, heartbeats, assignments,
//     status reports and log subscriptions live and fail together, and a new one
//     follows after a back-off that grows to 8 s.
//   - The worker is the set of tasks. What is assigned is on disk before it
//     starts and stays there until it is removed, so nothing a crash leaves
//     behind is forgotten. Secrets and configs are in memory only.
//   - Each task is a machine with one goroutine, which does what exec.Next says.
//   - Statuses go out in batches: everything that gathered while the last call
//     was under way, the newest for each task. All are sent again after each
//     registration; the managers ignore what they know.
//
// Statuses reach the disk in batches too, after the fact: a status that a crash
// loses is found again, since verbs are idempotent and controllers adopt.
package agent
