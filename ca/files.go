package ca

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"time"

	"skep/model"
	"skep/vfs"
)

const (
	rootFile = "swarm-root-ca.crt"
	certFile = "swarm-node.crt"
	keyName  = "swarm-node.key"
	// A file that is being replaced has this at the end of its name.
	newSuffix = ".new"
	// No file here is larger; what is larger was not written by us.
	maxFile = 1 << 20
)

// Files is the directory "certificates" of a node: the root it trusts, its
// certificate and its key, the latter with the key of the raft log in a header.
// Whatever moment the machine stops at, Load finds the old identity or the new
// one. It may be used by several goroutines; one Files owns a directory.
type Files struct {
	fs  vfs.FS
	dir string

	mu sync.Mutex
	// keks are the unlock keys of which one opens the key file: none while it is not
	// locked, two after a change of which it is not known whether it took place.
	keks [][]byte
}

// NewFiles returns the files in dir. Nothing is read or made yet.
func NewFiles(fs vfs.FS, dir string) *Files { return &Files{fs: fs, dir: dir} }

// Load reads the identity of the node. It is an error that answers to
// fs.ErrNotExist when there is none yet, and to ErrLocked when it takes Unlock first. Whether the certificate is still valid
// is not looked at, see Certificate.Valid.
func (f *Files) Load(now time.Time) (*Root, *Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chain, err := f.read(certFile)
	if err != nil {
		return nil, nil, err
	}
	bundle, err := f.read(rootFile)
	if err != nil {
		return nil, nil, f.incomplete(rootFile, err)
	}
	root, err := ParseRoot(bundle, now)
	if err != nil {
		return nil, nil, f.damaged(rootFile, err)
	}
	text, err := f.read(keyName)
	if err != nil {
		return nil, nil, f.incomplete(keyName, err)
	}
	key, err := parseKeyFile(text, f.keks...)
	if err != nil {
		return nil, nil, f.damaged(keyName, err)
	}
	cert, err := NewCertificate(root, chain, key.key)
	if err == nil {
		return root, cert, nil
	}
	if cert := f.finish(root, chain, key); cert != nil {
		return root, cert, nil
	}
	return nil, nil, f.damaged(certFile, err)
}

// finish completes a Save that was cut off between its two renames: one of the
// new files has its final name, the other not yet.
func (f *Files) finish(root *Root, chain []byte, key keyFile) *Certificate {
	if text, err := f.read(certFile + newSuffix); err == nil {
		if cert, err := NewCertificate(root, text, key.key); err == nil && f.rename(certFile) == nil {
			return cert
		}
	}
	text, err := f.read(keyName + newSuffix)
	if err != nil {
		return nil
	}
	if key, err = parseKeyFile(text, f.keks...); err != nil {
		return nil
	}
	if cert, err := NewCertificate(root, chain, key.key); err == nil && f.rename(keyName) == nil {
		return cert
	}
	return nil
}

// Save makes root and cert the identity of the node, durably, and keeps what the
// headers of the key file say, and that it is locked. The root takes its place before the certificate: if it
// does not vouch for the identity that was there, and differs from the root that
// did, a crash in between leaves a certificate that Load refuses. A change of
// roots therefore goes by way of a bundle of both.
func (f *Files) Save(root *Root, cert *Certificate) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := keyFile{key: cert.key}
	switch old, err := f.readKey(); {
	case err == nil:
		key.headers, key.kek = old.headers, old.kek
		if !old.key.private.Equal(cert.key.private) {
			key = key.without(exposedHeader)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err // it may hold the only copy of the raft log's key
	}
	if err := f.settle(); err != nil {
		return err
	}
	if err := f.saveRoot(root); err != nil {
		return err
	}
	text, err := key.encode()
	if err != nil {
		return err
	}
	if err := f.write(certFile, cert.pem); err != nil {
		return err
	}
	if err := f.write(keyName, text); err != nil {
		return err
	}
	// Both new files are there for sure before the first takes its name: with
	// either rename done, finish can do the other.
	if err := f.fs.SyncDir(f.dir); err != nil {
		return fmt.Errorf("save the node's certificate: %w", err)
	}
	for _, name := range []string{keyName, certFile} {
		if err := f.rename(name); err != nil {
			return err
		}
	}
	return nil
}

// settle completes a Save of this process that failed between its two renames, as finish does at
// a start: until then the file that has not got its name is the only one of its kind that fits
// the other, and must not give way to the next attempt.
func (f *Files) settle() error {
	key, err := f.readKey()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The names that are seen must be those that stay, before another file takes one.
	if err := f.fs.SyncDir(f.dir); err != nil {
		return fmt.Errorf("save the node's certificate: %w", err)
	}
	has := func(name string) bool {
		chain, err := f.read(name)
		return err == nil && key.key.isOf(chain)
	}
	if !has(certFile) && has(certFile+newSuffix) {
		return f.rename(certFile)
	}
	return nil
}

// SaveRoot makes root the trusted one, durably.
func (f *Files) SaveRoot(root *Root) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.saveRoot(root)
}

// RaftKey returns the key that the raft log is written with, false when there is none yet.
func (f *Files) RaftKey() (key [RaftKeySize]byte, ok bool, err error) {
	keys, err := f.RaftKeys()
	if err != nil || keys.Write() == nil {
		return key, false, err
	}
	return *keys.Write(), true, nil
}

// SetRaftKey stores the key of the raft log, durably. There must be an identity.
func (f *Files) SetRaftKey(key [RaftKeySize]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.readKey()
	if err != nil {
		return err
	}
	if file, err = file.withDEK(raftKeyHeader, &key); err != nil {
		return err
	}
	return f.replaceKey(file)
}

func (f *Files) saveRoot(root *Root) error {
	if err := vfs.MakeDir(f.fs, f.dir); err != nil {
		return fmt.Errorf("save the root certificate: %w", err)
	}
	if old, err := f.read(rootFile); err == nil && bytes.Equal(old, root.pem) {
		return nil
	}
	if err := f.write(rootFile, root.pem); err != nil {
		return err
	}
	return f.rename(rootFile)
}

func (f *Files) readKey() (keyFile, error) {
	text, err := f.read(keyName)
	if err != nil {
		return keyFile{}, err
	}
	key, err := parseKeyFile(text, f.keks...)
	if err != nil {
		return keyFile{}, f.damaged(keyName, err)
	}
	return key, nil
}

func (f *Files) read(name string) ([]byte, error) {
	file, err := f.fs.Open(path.Join(f.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read the node's identity: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read the node's identity: %w", err)
	}
	if len(text) > maxFile {
		return nil, f.damaged(name, model.Errorf(model.Invalid, "it is larger than %d bytes", maxFile))
	}
	return text, nil
}

// write puts text into the file that is to become name.
func (f *Files) write(name string, text []byte) error {
	full := path.Join(f.dir, name+newSuffix)
	// What a crash left may have another owner's mode: begin anew.
	if err := f.fs.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", full, err)
	}
	file, err := f.fs.Create(full)
	if err != nil {
		return fmt.Errorf("write %s: %w", full, err)
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		// What could not be written should not take up the space that it lacked.
		return fmt.Errorf("write %s: %w", full, errors.Join(err, f.fs.Remove(full)))
	}
	return nil
}

func (f *Files) rename(name string) error {
	full := path.Join(f.dir, name)
	if err := f.fs.Rename(full+newSuffix, full); err != nil {
		return fmt.Errorf("replace %s: %w", full, err)
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		return fmt.Errorf("replace %s: %w", full, err)
	}
	return nil
}

// damaged says what to do about a file that cannot be used. An error of kind
// Precondition is not the file's fault and says so itself: a clock, a lock.
func (f *Files) damaged(name string, err error) error {
	if kind := model.KindOf(err); kind == model.Precondition || kind == model.Denied {
		return fmt.Errorf("%s cannot be used: %w", path.Join(f.dir, name), err)
	}
	return fmt.Errorf("%s cannot be used: %w: restore it from a backup, or remove the state directory and join again", path.Join(f.dir, name), err)
}

// incomplete says that one file is missing where others are: that is not the
// state of a node that has no identity yet.
func (f *Files) incomplete(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return f.damaged(name, model.Errorf(model.Invalid, "it is missing, and %s is there", certFile))
	}
	return err
}
