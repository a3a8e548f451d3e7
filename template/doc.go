// Package template expands {{.Service.Name}} and its kin in the specs of tasks.
//
// The language is Go's text/template over Data, with the one function join
// (separator first, then what to join). A key that does not exist is an error,
// never "<no value>": a typing error is found when the service is created
// (Check) and not by the process that reads the result.
//
// Expanded are, of a process: its arguments, the values of its environment and
// its directory; of a container: the values of its environment, sources and
// targets of its mounts with labels and driver options of their volumes, and
// its hostname. A secret or config whose spec says templating "golang" is
// expanded by Payload, which knows three more functions: secret, config and env.
//
// Templates are the text of users, and are expanded by managers too. What comes out
// of one is at most MaxOutput, and one that loops, or makes text, without end is an
// error within a second.
//
// Everything here is pure. Specs that are passed in are never changed; a spec
// in which nothing is to be expanded is returned as it is.
package template
