// Package offline reads the raft log and the snapshots of a manager that does not run,
// for people and programs that look into them.
//
// Promises:
//
//   - Nothing is written: no segment is begun, no unfinished write cut off, no old file
//     removed. The file system that it works on refuses all that.
//   - What it returns of objects has no secrets in it, see [Redact]. Labels, commands and
//     arguments are shown as they are.
//   - What is damaged is told by a [skep/raft/seal.DamageError] with file and offset. What
//     precedes it is returned all the same.
//
// It does not make sure that nobody else uses the directory: its caller holds the lock.
package offline
