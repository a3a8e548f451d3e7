package offline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"skep/raft/seal"
	"skep/raft/snap"
	"skep/raft/wal"
	"skep/store"
	"skep/vfs"
)

// Dir is the raft directory of a manager that does not run.
type Dir struct {
	logs      wal.Config
	snapshots snap.Dir
}

// Open returns the raft directory dir, the files of which are sealed with one of keys, the
// current one first. It reads nothing yet.
func Open(fsys vfs.FS, dir string, current [32]byte, others ...[32]byte) *Dir {
	old := make([]seal.Key, len(others))
	for i, key := range others {
		old[i] = key
	}
	fsys = vfs.ReadOnly(fsys)
	keys := seal.NewRing(current, old...)
	return &Dir{
		logs:      wal.Config{FS: fsys, Dir: path.Join(dir, "log"), Keys: keys},
		snapshots: snap.Dir{FS: fsys, Path: path.Join(dir, "snapshots"), Keys: keys},
	}
}

// Log reads the whole log. It has to reach back to the newest snapshot that is whole, or
// to the beginning if there is none: that is what the next start asks of it. A log that has not
// got to a snapshot which came from another manager is whole: a crash leaves that. If it is damaged, what precedes the damage is returned with the error.
func (d *Dir) Log() (*wal.Inspection, error) {
	newest, err := d.newest()
	if err != nil {
		return &wal.Inspection{}, err
	}
	logs := d.logs
	if newest.Received {
		logs.Restart = &newest.Term
	}
	found, err := wal.Inspect(logs, newest.Index)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, wal.ErrNone) {
		return found, fmt.Errorf("there is no raft log in %s: is this the state directory of a manager?", d.logs.Dir)
	}
	return found, err
}

// newest returns what the newest snapshot that is whole says of itself, or zeros.
func (d *Dir) newest() (snap.Meta, error) {
	indexes, err := d.Snapshots()
	if err != nil {
		return snap.Meta{}, err
	}
	for _, index := range indexes {
		meta, err := d.snapshots.Verify(index)
		var damage *seal.DamageError
		switch {
		case err == nil:
			return meta, nil
		case !errors.As(err, &damage), errors.Is(err, seal.ErrKey), errors.Is(err, seal.ErrNewer):
			return snap.Meta{}, err
		}
	}
	return snap.Meta{}, nil
}

// Snapshots returns the indexes of all snapshots, the newest first.
func (d *Dir) Snapshots() ([]uint64, error) {
	indexes, err := d.snapshots.List()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return indexes, err
}

// SnapshotFile returns the name of the file of a snapshot.
func (d *Dir) SnapshotFile(index uint64) string { return d.snapshots.File(index) }

// Snapshot reads the snapshot at index, and all that is in its file.
func (d *Dir) Snapshot(index uint64) (snap.Meta, *store.Snapshot, error) {
	r, err := d.snapshots.Open(index)
	if err != nil {
		return snap.Meta{}, nil, err
	}
	state := store.New(store.Config{})
	err = state.Restore(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	var damage *seal.DamageError
	if err != nil && !errors.As(err, &damage) {
		err = fmt.Errorf("%s: %w", d.snapshots.File(index), err)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return r.Meta, nil, err
	}
	return r.Meta, state.Read(), nil
}
