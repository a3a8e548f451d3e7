// Package badinput holds servers to one promise: a request with any field
// missing, wrong or huge gets an error of a sensible kind or is carried out; it
// never panics, and an error has changed nothing.
//
// The requests are generated from the descriptors: Mutants yields copies of a
// message that differ from it in one place each, so that the rest of the request
// leads deep into the handler. Try gives them to every method of a service. Fill
// makes a message that has everything. It is for tests only.
package badinput
