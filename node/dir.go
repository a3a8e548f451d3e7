package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"skep/vfs"
)

// format is the version of the layout of a state directory. A newer swarmd reads
// older ones; an older one refuses newer ones.
const format = 1

const (
	stateFile = "state.json"
	lockName  = "lock"
	ownFiles  = "a Skep state directory has a " + stateFile
	// newSuffix marks a file that is to take another's place.
	newSuffix = ".new"
)

// state is what state.json holds: what a node must know before it can ask anybody.
type state struct {
	Format int `json:"format"`
	// Managers are the addresses of the managers it knew last, sorted.
	Managers []string `json:"managers"`
	// RaftID is what this node is called in the managers' group, since it has a log;
	// 0 on a worker. Without its log it must not come back under that name.
	RaftID uint64 `json:"raft_id,omitempty"`
}

// stateDir is the state directory of a node. One process at a time owns it.
type stateDir struct {
	fs   vfs.FS
	path string
	lock io.Closer
	// editing is held from reading state.json to writing it.
	editing sync.Mutex
}

// openStateDir makes or opens a state directory and locks it. It changes nothing
// in a directory that is not ours.
func openStateDir(machine Machine, name string) (*stateDir, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	d := &stateDir{fs: machine.FS, path: name}
	if err := d.check(); err != nil {
		return nil, err
	}
	if err := vfs.MakeDir(d.fs, d.path); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	if d.lock, err = machine.Lock(d.join(lockName)); err != nil {
		return nil, err
	}
	if _, err := d.load(); errors.Is(err, fs.ErrNotExist) {
		return d, d.save(state{})
	}
	return d, nil
}

// check refuses directories of somebody else and of another version.
func (d *stateDir) check() error {
	names, err := d.fs.List(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("state directory: %w; give --state-dir a directory that this user may read and write", err)
	}
	own := []string{lockName, stateFile + newSuffix}
	if !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(own, name) }) {
		return nil
	}
	s, err := d.load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not empty and not ours: %s; give --state-dir an empty or a new directory", d.path, ownFiles)
	case err != nil:
		return err
	case s.Format > format:
		return fmt.Errorf("state directory %s has format %d, this swarmd reads up to %d: it was written by a newer swarmd; run that one", d.path, s.Format, format)
	}
	return nil
}

// release gives the directory up.
func (d *stateDir) release() error { return d.lock.Close() }

func (d *stateDir) join(elem ...string) string {
	return path.Join(append([]string{d.path}, elem...)...)
}

// has reports whether there is a file or directory of that name.
func (d *stateDir) has(elem ...string) (bool, error) {
	_, err := d.fs.Stat(d.join(elem...))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d *stateDir) load() (state, error) {
	var s state
	data, err := d.read(stateFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil || s.Format < 1 {
		return s, fmt.Errorf("%s is damaged or not ours (%s); restore it, or start over with an empty --state-dir", d.join(stateFile), ownFiles)
	}
	return s, nil
}

// edit changes state.json, if f says that there is something to change.
func (d *stateDir) edit(f func(*state) bool) error {
	d.editing.Lock()
	defer d.editing.Unlock()
	s, err := d.load()
	if err != nil || !f(&s) {
		return err
	}
	return d.save(s)
}

// save replaces state.json by a whole new file.
func (d *stateDir) save(s state) error {
	s.Format = format
	slices.Sort(s.Managers)
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return d.write(append(data, '\n'), stateFile)
}

// read returns the content of a file.
func (d *stateDir) read(elem ...string) ([]byte, error) {
	file, err := d.fs.Open(d.join(elem...))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(file)
	return data, errors.Join(err, file.Close())
}

// write writes a file so that after a crash either the old or the new content is there.
func (d *stateDir) write(data []byte, elem ...string) error {
	name := d.join(elem...)
	file, err := d.fs.Create(name + newSuffix)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = d.fs.Rename(name+newSuffix, name)
	}
	if err != nil {
		return errors.Join(err, d.fs.Remove(name+newSuffix))
	}
	return d.fs.SyncDir(path.Dir(name))
}

// setAside gives a directory another name, in place of what had that name before. It is no
// error if there is none.
func (d *stateDir) setAside(name, other string) error {
	found, err := d.has(name)
	if err != nil || !found {
		return err
	}
	if err := d.remove(other); err != nil {
		return err
	}
	if err := d.fs.Rename(d.join(name), d.join(other)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path)
}

// remove removes a file or directory with all in it; it is no error if there is none.
func (d *stateDir) remove(elem ...string) error {
	name := d.join(elem...)
	if err := d.fs.RemoveAll(name); err != nil {
		return err
	}
	if err := d.fs.SyncDir(path.Dir(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
