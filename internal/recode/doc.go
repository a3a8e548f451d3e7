// Command recode decodes messages with our generated Go code and encodes them
// again, for test/interop, which imports no package of ours.
//
// Standard input and output are sequences of google.protobuf.Any, each after
// its length as a varint: the type URL names the message, the value is its
// encoding. What it does not know it answers with exit status 1 and a line on
// standard error.
package main
