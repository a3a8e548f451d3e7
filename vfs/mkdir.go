package vfs

import (
	"errors"
	"io/fs"
	"path"
)

// MakeDir makes the directory dir and its missing parents with mode 0700, so that
// they survive a crash: it syncs each directory in which it makes a name.
func MakeDir(fsys FS, dir string) error {
	dir = path.Clean(dir)
	if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := path.Dir(dir)
	if parent != dir {
		if err := MakeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}
