// Package allocator gives new tasks what they need before they may be placed,
// and lets them step from NEW to PENDING.
//
// # What it decides
//
// A task gets its name, the annotations and the endpoint of its service, and a
// log driver: its own, or else the cluster's. Ports in host mode are copied as
// the service asks for them; a published port of 0 stays 0, for the agent to
// choose. A service that publishes ports gets an endpoint of its own likewise.
//
// A task that needs a network (one that it names, or the ingress network for a
// port in ingress mode) stays NEW and says so in its status: there are none yet.
//
// # What it reads and writes
//
// It reads services, tasks and the cluster. Of a task it writes annotations,
// service_annotations, endpoint, log_driver, and the status up to PENDING; of a
// service the endpoint. Objects of one service share these messages.
package allocator
