// Package contract holds our .proto files against the descriptors and the Go
// types that the public SwarmKit module registers: every message, field,
// enum value and method is the same, and what one side writes the other reads.
//
// Three parties exchange messages: "ours" is our .proto files compiled here and
// used through dynamicpb, "theirs" is the module's generated code, and "recode"
// is our generated code, run as a process.
package contract
