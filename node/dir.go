package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// format is the version of the layout of a state directory. A newer swarmd reads
// older ones; an older one refuses newer ones.
const format = 1

const (
	stateFile = "state.json"
	lockFile  = "lock"
	ownFiles  = "a Skep state directory has a " + stateFile
)

// state is what state.json holds: what a node must know before it can ask anybody.
type state struct {
	Format int `json:"format"`
	// Managers are the addresses of the managers it knew last, sorted.
	Managers []string `json:"managers"`
}

// stateDir is the state directory of a node. One process at a time owns it.
type stateDir struct {
	path string
	lock *os.File
}

// openStateDir makes or opens a state directory and locks it. It changes nothing
// in a directory that is not ours.
func openStateDir(path string) (*stateDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkStateDir(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	d := &stateDir{path: path, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory %s is in use by another swarmd; stop that one, or give this one a --state-dir of its own", path), lock.Close())
	}
	if _, err := d.load(); errors.Is(err, fs.ErrNotExist) {
		return d, d.save(state{})
	}
	return d, nil
}

// checkStateDir refuses directories of somebody else and of another version.
func checkStateDir(path string) error {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("state directory: %w; give --state-dir a directory that this user may read and write", err)
	}
	if slices.IndexFunc(entries, func(e fs.DirEntry) bool { return e.Name() != lockFile }) < 0 {
		return nil
	}
	s, err := (&stateDir{path: path}).load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not empty and not ours: %s; give --state-dir an empty or a new directory", path, ownFiles)
	case err != nil:
		return err
	case s.Format > format:
		return fmt.Errorf("state directory %s has format %d, this swarmd reads up to %d: it was written by a newer swarmd; run that one", path, s.Format, format)
	}
	return nil
}

// release gives the directory up. The lock file stays: removing it could unlock a
// directory that somebody else has just locked.
func (d *stateDir) release() error { return d.lock.Close() }

func (d *stateDir) join(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

func (d *stateDir) load() (state, error) {
	var s state
	data, err := os.ReadFile(d.join(stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil || s.Format < 1 {
		return s, fmt.Errorf("%s is damaged or not ours (%s); restore it, or start over with an empty --state-dir", d.join(stateFile), ownFiles)
	}
	return s, nil
}

// save replaces state.json by a whole new file.
func (d *stateDir) save(s state) error {
	s.Format = format
	slices.Sort(s.Managers)
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(d.join(stateFile), append(data, '\n'))
}

// writeFile writes a file so that after a crash either the old or the new content is there.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
