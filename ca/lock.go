package ca

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"skep/model"
)

// What a locked key file is refused with. A wrong key is no lack of one: the second does
// not answer to errors.Is(err, ErrLocked).
var (
	// ErrLocked is returned for what needs the unlock key while it is not known.
	ErrLocked = model.Errorf(model.Precondition, "this manager is locked: unlock it with the swarm's unlock key (SWMKEY-1-…), which \"swarmctl cluster unlock-key\" prints on a manager that is not locked")
	// ErrWrongKEK is returned when the unlock key does not open the key file.
	ErrWrongKEK = errWrongKEK
)

var errWrongKEK = model.Errorf(model.Denied, "this manager is locked with another unlock key: the swarm's key may have been rotated while this manager was down, then an older key is the right one")

// LockState is what a key file says of its keys, without them.
type LockState struct {
	// Locked: the keys are encrypted with the unlock key.
	Locked bool
	// Version is the version of the cluster object that the lock was taken from.
	Version uint64
	// Rotate: the raft log's key was on disk in the clear, or its rotation was not
	// finished; BeginRotation and FinishRotation are called for.
	Rotate bool
	// Renew: the node key was on disk in the clear, a new certificate with a new key
	// is called for.
	Renew bool
}

// RaftKeys are the keys of the raft log. They print nothing.
type RaftKeys struct {
	// Current is the key, nil when there is none yet.
	Current *[RaftKeySize]byte
	// Pending is the key that is to replace it, nil while none is. New files are
	// sealed with it; old ones may need either.
	Pending *[RaftKeySize]byte
}

// Write returns the key to write with, nil when there is none yet.
func (k RaftKeys) Write() *[RaftKeySize]byte {
	if k.Pending != nil {
		return k.Pending
	}
	return k.Current
}

// Read returns the other keys that files may be sealed with.
func (k RaftKeys) Read() [][RaftKeySize]byte {
	if k.Pending == nil || k.Current == nil {
		return nil
	}
	return [][RaftKeySize]byte{*k.Current}
}

// String keeps keys out of messages.
func (RaftKeys) String() string { return "[secret]" }

// GoString keeps keys out of %#v.
func (RaftKeys) GoString() string { return "[secret]" }

// LogValue keeps keys out of logs.
func (RaftKeys) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Unlock takes the key that the key file is locked with. If it is not the right one
// the error is ErrWrongKEK, nothing has changed, and it may be tried again. A file
// that is not locked needs no key; what is given is not remembered.
func (f *Files) Unlock(kek []byte) error {
	if len(kek) != kekSize {
		return model.Errorf(model.Invalid, "an unlock key has %d bytes, this has %d", kekSize, len(kek))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := f.read(keyName)
	if err != nil {
		return err
	}
	file, err := parseKeyFile(text, kek)
	if err != nil {
		return f.damaged(keyName, err)
	}
	for _, header := range []string{raftKeyHeader, pendingHeader} {
		if _, err := file.dek(header); err != nil {
			return f.damaged(keyName, err)
		}
	}
	if file.kek != nil {
		f.keks = [][]byte{bytes.Clone(kek)}
	}
	return nil
}

// LockState reads the state of the key file. A locked one answers ErrLocked until Unlock.
func (f *Files) LockState() (LockState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.readKey()
	if err != nil {
		return LockState{}, err
	}
	_, pending := file.headers[pendingHeader]
	_, rotate := file.headers[rotateHeader]
	_, exposed := file.headers[exposedHeader]
	return LockState{
		Locked: file.kek != nil, Version: file.version(), Rotate: pending || rotate, Renew: exposed,
	}, nil
}

// SetKEK locks the key file with another unlock key, or with none if kek is nil, as of a
// version of the cluster object. A version that is not newer than the file's is ignored,
// and so is a key that is the present one. All keys change over at once: whatever moment
// the machine stops at, the file opens with exactly one of the old and the new key.
//
// A file that was not locked says from then on that its keys were on disk in the clear:
// see LockState.
func (f *Files) SetKEK(version uint64, kek []byte) error {
	if kek != nil && len(kek) != kekSize {
		return model.Errorf(model.Invalid, "an unlock key has %d bytes, this has %d", kekSize, len(kek))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.readKey()
	if err != nil {
		return err
	}
	if version <= file.version() || bytes.Equal(kek, file.kek) && (kek == nil) == (file.kek == nil) {
		return nil
	}
	next, err := file.rewrap(version, kek)
	if err != nil {
		return f.damaged(keyName, err)
	}
	// If replacing the file fails at its end, either key may be the one it has.
	if kek != nil {
		f.keks = append(f.keks, next.kek)
	}
	if err := f.replaceKey(next); err != nil {
		return err
	}
	f.keks = nil
	if next.kek != nil {
		f.keks = [][]byte{next.kek}
	}
	return nil
}

// RaftKeys returns the keys of the raft log.
func (f *Files) RaftKeys() (RaftKeys, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.readKey()
	if err != nil {
		return RaftKeys{}, err
	}
	return f.raftKeys(file)
}

func (f *Files) raftKeys(file keyFile) (keys RaftKeys, err error) {
	if keys.Current, err = file.dek(raftKeyHeader); err != nil {
		return RaftKeys{}, f.damaged(keyName, err)
	}
	if keys.Pending, err = file.dek(pendingHeader); err != nil {
		return RaftKeys{}, f.damaged(keyName, err)
	}
	return keys, nil
}

// BeginRotation stores a new key for the raft log next to the present one, durably, and
// returns both. If there is a pending key already it is kept: that rotation goes on.
// Only then may anything be written with the new key.
func (f *Files) BeginRotation() (RaftKeys, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.readKey()
	if err != nil {
		return RaftKeys{}, err
	}
	keys, err := f.raftKeys(file)
	switch {
	case err != nil:
		return RaftKeys{}, err
	case keys.Current == nil:
		return RaftKeys{}, model.Errorf(model.Precondition, "the raft log has no key that could be replaced")
	case keys.Pending != nil:
		return keys, nil
	}
	keys.Pending = new([RaftKeySize]byte)
	if _, err := rand.Read(keys.Pending[:]); err != nil {
		return RaftKeys{}, fmt.Errorf("make a key for the raft log: %w", err)
	}
	next, err := file.withDEK(pendingHeader, keys.Pending)
	if err != nil {
		return RaftKeys{}, err
	}
	if err := f.replaceKey(next.without(rotateHeader)); err != nil {
		return RaftKeys{}, err
	}
	return keys, nil
}

// FinishRotation makes the pending key the present one and forgets the old, durably. It
// is called when nothing on disk needs the old key. Without a pending key it does nothing.
func (f *Files) FinishRotation() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.readKey()
	if err != nil {
		return err
	}
	keys, err := f.raftKeys(file)
	if err != nil || keys.Pending == nil {
		return err
	}
	next, err := file.withDEK(raftKeyHeader, keys.Pending)
	if err != nil {
		return err
	}
	return f.replaceKey(next.without(pendingHeader))
}

// ForgetRaftKeys removes the keys of the raft log and the lock, durably: for a node that
// is no manager any more, after its raft directory is gone. Should it become one again, any
// version of the cluster object is news.
func (f *Files) ForgetRaftKeys() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.readKey()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	headers := []string{raftKeyHeader, pendingHeader, rotateHeader, versionHeader, exposedHeader}
	if file.kek == nil && !slices.ContainsFunc(headers, func(name string) bool { _, ok := file.headers[name]; return ok }) {
		return nil
	}
	for _, name := range headers {
		file = file.without(name)
	}
	file.kek = nil
	if err := f.replaceKey(file); err != nil {
		return err
	}
	f.keks = nil
	return nil
}

// replaceKey makes file the key file, durably.
func (f *Files) replaceKey(file keyFile) error {
	text, err := file.encode()
	if err != nil {
		return err
	}
	if err := f.write(keyName, text); err != nil {
		return err
	}
	return f.rename(keyName)
}
