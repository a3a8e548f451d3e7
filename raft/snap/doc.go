// Package snap is raft's snapshot files: one file for each state, named after the index
// of its last entry (16 hexadecimal digits, ".snap").
//
// A file is a header and frames as package seal makes them, numbered from 0. The first
// holds the [Meta], the others the state, at most 256 KiB each. The tag is 1 in the last
// frame and 0 in all before it, so that a file that was cut short is not taken for a whole one.
// Frames are made and read one at a time: memory does not grow with the state.
//
// A file gets its name when all of it is durable. So one that is damaged was damaged later,
// and whoever reads it finds out before the last byte: [Reader] never returns a byte that was not
// written, and io.EOF only after the last one.
package snap
