//go:build !linux

package vfs

import "os"

// datasync is fsync where the system knows nothing cheaper.
func datasync(f *os.File) error { return f.Sync() }
