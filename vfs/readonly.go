package vfs

import (
	"io/fs"
	"syscall"
)

// ReadOnly returns fsys for a reader that must leave no trace: whatever would change
// something fails with EROFS and changes nothing.
func ReadOnly(fsys FS) FS { return readOnly{fsys} }

type readOnly struct{ fsys FS }

func refused(op Op, name string) error {
	return &fs.PathError{Op: op.String(), Path: name, Err: syscall.EROFS}
}

func (readOnly) Create(name string) (File, error)        { return nil, refused(OpCreate, name) }
func (readOnly) OpenReadWrite(name string) (File, error) { return nil, refused(OpOpen, name) }
func (readOnly) Remove(name string) error                { return refused(OpRemove, name) }
func (readOnly) RemoveAll(name string) error             { return refused(OpRemove, name) }
func (readOnly) Rename(name, _ string) error             { return refused(OpRename, name) }
func (readOnly) MkdirAll(dir string, _ fs.FileMode) error {
	return refused(OpMkdir, dir)
}
func (readOnly) SyncDir(dir string) error { return refused(OpSyncDir, dir) }

// Open needs no wrapper: a file that was opened for reading takes no write.
func (r readOnly) Open(name string) (File, error)        { return r.fsys.Open(name) }
func (r readOnly) List(dir string) ([]string, error)     { return r.fsys.List(dir) }
func (r readOnly) Stat(name string) (fs.FileInfo, error) { return r.fsys.Stat(name) }
