package raft

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"skep/vfs"
)

// Exists reports whether dir has the log of a member.
func Exists(fsys vfs.FS, dir string) (bool, error) {
	for _, part := range []string{"log", "snapshots"} {
		names, err := fsys.List(path.Join(dir, part))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look for a raft log in %s: %w", dir, err)
		}
		if len(names) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Close closes the files of a node that is not run.
func (n *Node) Close() error {
	if n.started.Swap(true) {
		return errors.New("raft: a node that runs closes its files itself")
	}
	close(n.done)
	return n.log.Close()
}
