// Package logbroker serves Logs and LogBroker, through which the output of tasks
// comes from the agents that run them. It is registered and answers Unimplemented
// for now: engines that ask for subscriptions take that as "none", and the
// output of a machine's own processes is read there, with skep.v1.Local.
package logbroker
