// Package scheduler gives pending tasks to nodes.
//
// # What it decides
//
// A node is feasible for a task when it is ready and active, can run the task's
// runtime, has the plugins and the platform that it asks for, meets its
// constraints, and has left what it reserves: CPU, memory, generic resources,
// host ports, and a place below the most replicas a node may have.
//
// Of the feasible nodes the best one is taken, exactly:
//
//  1. nodes on which the service failed 5 times or more within 5 minutes come
//     last, the one with fewest failures first;
//  2. fewest active tasks of the service;
//  3. fewest active tasks in all;
//  4. most free CPU, then most free memory;
//  5. lowest ID, so that equal states lead to equal decisions.
//
// A task that comes with a node (assigned beforehand) is only checked against
// that node. A task that fits nowhere stays PENDING and says why: for each filter,
// on how many nodes it fails. It is looked at again only when a node that it may
// fit on came, changed or got something back.
//
// # How
//
// Tasks of one service and version are a group; groups that ask for the same are
// a class. A class either has tasks to place or waits, and an event costs by the
// classes that it concerns, however many tasks wait in them. Nodes that meet what
// does not depend on load (a pool) are known for every class with tasks; boards
// keep the nodes of a pool in the order above while tasks are placed, so that one
// decision is O(log n). Pools and boards are caches over the view: a few are kept,
// and any can be made again.
//
// # What it reads and writes
//
// It reads nodes and tasks. Of a task it writes node_id,
// assigned_generic_resources, the status ASSIGNED, and, while PENDING, why it
// waits. Recent failures are remembered for five minutes by this leader; the next
// one knows those that the history still tells.
package scheduler
