package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Errors are *fs.PathError or *os.LinkError and answer to
// errors.Is with fs.ErrNotExist, fs.ErrExist and the errno they wrap.
type FS interface {
	// Create opens the named file for reading and writing, empties it if it
	// exists and makes it with mode 0600 if it does not. The directory must exist.
	Create(name string) (File, error)
	// Open opens the named file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens the named file, which must exist, for reading and writing.
	OpenReadWrite(name string) (File, error)
	// Remove removes the named file or empty directory.
	Remove(name string) error
	// RemoveAll removes name and all it contains. It is no error if there is nothing.
	RemoveAll(name string) error
	// Rename gives the file oldname the name newname, at once replacing a file
	// that has that name.
	Rename(oldname, newname string) error
	// MkdirAll makes the directory and its missing parents.
	MkdirAll(dir string, perm fs.FileMode) error
	// SyncDir makes durable which names are in dir.
	SyncDir(dir string) error
	// List returns the names in dir, sorted.
	List(dir string) ([]string, error)
	// Stat describes the named file or directory.
	Stat(name string) (fs.FileInfo, error)
}

// File is an open file. Its name may be removed or given to another file while it
// is open: it stays readable and writable.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	// Sync makes durable the content and the size of the file, not its name.
	Sync() error
	// Truncate makes the file size bytes long; what it grows by reads as zeros.
	Truncate(size int64) error
	// Stat describes the file.
	Stat() (fs.FileInfo, error)
}
