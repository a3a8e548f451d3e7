// Package vfs is the port through which everything that must survive a crash
// reaches the disk.
//
// [FS] and [File] are the few operations that a write-ahead log and snapshot
// files need, each with the durability it really has:
//
//   - what was written to a file is durable once [File.Sync] returned nil;
//   - that a file exists under a name, or exists no more, is durable once
//     [FS.SyncDir] of its directory returned nil, and not before;
//   - after Sync returned an error nothing is known of what was written since the
//     last Sync that succeeded, and a later Sync that succeeds says nothing about
//     it either: the kernel may have dropped the pages. Callers give up the file.
//
// [OS] is the real file system. [Mem] is a file system in memory that takes these
// sentences literally: it can produce every state that a power cut may leave
// behind, fail any operation, run out of space, and sync slowly. Both pass the
// one suite in package vfstest.
//
// Names are slash separated paths. All methods of FS may be called concurrently,
// those of one File too, as with *os.File.
package vfs
