// Package reaper deletes task records, and memories of removed nodes, that nobody
// needs.
//
// # What it decides
//
//   - A task that is to be removed goes once nothing of it runs: it ended, or was
//     never given to a node.
//   - A task of no service goes once its outcome can never be known.
//   - Of a slot's history as many records stay as the cluster retains (5 unless it
//     says otherwise, all if negative), or one more than the restart attempts that
//     the service allows, as these are counted in the history. Only records of
//     tasks that ended or never will run go, the oldest first; the last record of
//     a slot in which nothing runs stays, as it says why, and so does the record
//     of what a task replaces that waits to be run, as it says when.
//
// A record's end is the end of the task: its agent then removes what is left of it.
//
// A second loop, RemovedNodes, forgets removed nodes a week after their certificates
// have ended.
//
// # What it reads and writes
//
// It reads tasks, services and the cluster, and deletes tasks; it reads and deletes
// what remembers removed nodes.
package reaper
