// Package vfstest holds the one suite that every vfs.FS passes, so that what is
// tried in memory is true of the disk, and what tests of files need besides.
package vfstest
