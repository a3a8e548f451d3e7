// Command swarmbench puts load on a manager and measures it against what the
// machine can do. It speaks the docker.swarmkit.v1 contract only, so any manager
// that does can be measured; "suite" starts one of ours for each measurement.
//
// Every measurement checks its result and reports no number when the check fails.
// It prints one line of JSON on standard output, and a line for people on
// standard error.
package main
