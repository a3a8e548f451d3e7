// Package vfstest holds the one suite that every vfs.FS passes, so that what is
// tried in memory is true of the disk.
package vfstest
