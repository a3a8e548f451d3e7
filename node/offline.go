package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"skep/vfs"
)

// Offline is the state directory of a node that does not run, for a reader. No swarmd
// starts on it until it is closed.
type Offline struct {
	dir  *stateDir
	lock *os.File
}

// OpenOffline opens a state directory and changes nothing in it. It refuses one that a
// swarmd uses, and what is none.
func OpenOffline(name string) (*Offline, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	o := &Offline{dir: &stateDir{fs: vfs.ReadOnly(vfs.OS()), path: name}}
	if err := o.dir.check(); err != nil {
		return nil, err
	}
	o.lock, err = os.Open(o.dir.join(lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not the state directory of a node: %s; name one with --state-dir", name, ownFiles)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(o.lock.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("swarmd runs on state directory %s: stop it first, or look at a copy of the directory", name)
		}
		return nil, errors.Join(err, o.lock.Close())
	}
	return o, nil
}

// RaftDir is where the raft log and its snapshots are.
func (o *Offline) RaftDir() string { return o.dir.join(raftDir) }

// CertificatesDir is where the node's certificate and key are.
func (o *Offline) CertificatesDir() string { return o.dir.join(certificatesDir) }

// Close lets a swarmd start again.
func (o *Offline) Close() error { return o.lock.Close() }
