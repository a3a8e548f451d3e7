package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/api"
	"skep/ca"
	"skep/manager"
	"skep/model"
	"skep/raft/offline"
	"skep/store"
	"skep/vfs"
	"skep/vfs/vfstest"
)

const lockDir, lockCerts = "state/raft", "state/certificates"

// lockable is a manager on a disk in memory whose key file is kept as its cluster object
// says.
type lockable struct {
	disk     *vfs.Mem
	files    *ca.Files
	identity *ca.Identity
	rootKey  []byte
	manager  *manager.Manager
	// end waits for all of it.
	end func()
}

// newLockable founds a swarm.
func newLockable(t *testing.T) *lockable {
	t.Helper()
	root, rootKey, cert, err := ca.Bootstrap(model.NewID(rand.Reader), model.NewID(rand.Reader), time.Now(), ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	l := &lockable{disk: vfs.NewMem(), identity: ca.NewIdentity(root, cert, nil)}
	l.files = ca.NewFiles(l.disk, lockCerts)
	key := [ca.RaftKeySize]byte{42}
	if err := errors.Join(l.files.Save(root, cert), l.files.SetRaftKey(key)); err != nil {
		t.Fatal(err)
	}
	l.rootKey = rootKey
	l.run(t, manager.Config{RaftKey: key, Founding: &manager.Founding{RootKey: rootKey}})
	return l
}

// resume starts a manager on what a kill or a power cut left, which opens with key.
func (l *lockable) resume(t *testing.T, image *vfs.Mem, key ca.UnlockKey) *lockable {
	t.Helper()
	r := &lockable{disk: image, files: ca.NewFiles(image, lockCerts), rootKey: l.rootKey}
	if !key.IsZero() {
		if err := r.files.Unlock(key.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	root, cert, err := r.files.Load(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.identity = ca.NewIdentity(root, cert, nil)
	keys, err := r.files.RaftKeys()
	if err != nil {
		t.Fatal(err)
	}
	r.run(t, manager.Config{RaftKey: *keys.Write(), OldRaftKeys: keys.Read()})
	return r
}

// run runs the manager, and what keeps its key file.
func (l *lockable) run(t *testing.T, cfg manager.Config) {
	t.Helper()
	cfg.Identity, cfg.FS, cfg.Dir, cfg.Addr = l.identity, l.disk, lockDir, "127.0.0.1:4242"
	var err error
	if l.manager, err = manager.New(cfg); err != nil {
		t.Fatal(err)
	}
	root, cert := l.identity.Root(), l.identity.Certificate()
	renewer := ca.NewRenewer(ca.RenewerConfig{
		Identity: l.identity, Files: l.files, Rand: func() float64 { return 0.5 },
		Obtain: func(context.Context) (*ca.Root, *ca.Certificate, error) { return issue(root, l.rootKey, cert) },
	})
	keeper := &locker{
		files: l.files, rotate: l.manager.RotateRaftKey, renewed: l.identity.Changed,
		renew: func() { renewer.Renew(api.NodeRole_MANAGER) },
		log:   slog.New(slog.DiscardHandler), turned: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	l.end = func() { cancel(); parts.Wait() }
	parts.Go(func() {
		if err := l.manager.Run(ctx); err != nil {
			t.Errorf("the manager ends with %v", err)
		}
	})
	parts.Go(func() { _ = renewer.Run(ctx) }) // it ends with ctx
	parts.Go(func() { keeper.follow(ctx, l.manager.Store(), l.identity.ClusterID()) })
	parts.Go(func() { keeper.mend(ctx) })
	if err := l.manager.AwaitServing(ctx); err != nil {
		t.Fatal(err)
	}
}

// wants returns the unlock key that the swarm has.
func (l *lockable) wants(t *testing.T) ca.UnlockKey {
	t.Helper()
	cluster, _ := l.manager.Store().Read().Clusters.Get(l.identity.ClusterID())
	key, err := ca.UnlockKeyIn(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes another certificate, with a new key, for the node that has one.
func issue(root *ca.Root, rootKey []byte, cert *ca.Certificate) (*ca.Root, *ca.Certificate, error) {
	key, err := ca.NewKey()
	if err != nil {
		return nil, nil, err
	}
	request, err := key.Request()
	if err != nil {
		return nil, nil, err
	}
	signer, err := ca.NewSigner(root, rootKey)
	if err != nil {
		return nil, nil, err
	}
	chain, err := signer.Sign(request, ca.Subject{NodeID: cert.NodeID, Org: cert.ClusterID, Role: cert.Role}, time.Now(), ca.DefaultLifetime)
	if err != nil {
		return nil, nil, err
	}
	next, err := ca.NewCertificate(root, chain, key)
	return root, next, err
}

// set makes key the swarm's unlock key.
func (l *lockable) set(ctx context.Context, key ca.UnlockKey) error {
	return l.manager.Store().Update(ctx, func(tx *store.Tx) error {
		old, _ := tx.Clusters.Get(l.identity.ClusterID())
		c := model.Shallow(old)
		c.UnlockKeys = nil
		if !key.IsZero() {
			c.UnlockKeys = []*api.EncryptionKey{{Subsystem: ca.ManagerOU, Key: key.Bytes()}}
		}
		return tx.Update(c)
	})
}

// settled waits until the key file is as key wants it and nothing is left to be done.
func (l *lockable) settled(t *testing.T, key ca.UnlockKey, pause func()) {
	t.Helper()
	var is ca.LockState
	for range 600 {
		synctest.Wait()
		var err error
		if is, err = l.files.LockState(); err != nil {
			t.Fatal(err)
		}
		if is.Locked == !key.IsZero() && !is.Rotate && (!is.Locked || !is.Renew) && opens(l.disk.Copy(), key) == nil {
			return
		}
		pause()
	}
	t.Fatalf("after a minute the key file is %+v", is)
}

// opens opens a key file with key, or without if it is zero, and reads all that it is
// for: the node's key, the log and its snapshots.
func opens(image *vfs.Mem, key ca.UnlockKey) error {
	files := ca.NewFiles(image, lockCerts)
	is, err := files.LockState()
	if locked := errors.Is(err, ca.ErrLocked); locked != !key.IsZero() {
		return fmt.Errorf("it is locked: %t (%+v, %w)", locked, is, err)
	}
	if !key.IsZero() {
		if err := files.Unlock(key.Bytes()); err != nil {
			return err
		}
	}
	if _, _, err := files.Load(time.Now()); err != nil {
		return err
	}
	keys, err := files.RaftKeys()
	if err != nil || keys.Write() == nil {
		return fmt.Errorf("the keys of the log are gone: %w", err)
	}
	dir := offline.Open(image, lockDir, *keys.Write(), keys.Read()...)
	if _, err := dir.Log(); err != nil {
		return err
	}
	snapshots, err := dir.Snapshots()
	for _, index := range snapshots {
		if _, _, damaged := dir.Snapshot(index); damaged != nil {
			err = errors.Join(err, damaged)
		}
	}
	return err
}

// exposed says what a locked image has in the clear, "" if nothing.
func exposed(t *testing.T, image *vfs.Mem, key ca.UnlockKey) string {
	t.Helper()
	files := ca.NewFiles(image, lockCerts)
	if err := files.Unlock(key.Bytes()); err != nil {
		t.Fatal(err)
	}
	keys, err := files.RaftKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{lockCerts, lockDir, lockDir + "/log", lockDir + "/snapshots"} {
		names, err := image.List(dir)
		if err != nil {
			continue // not made yet
		}
		for _, name := range names {
			info, err := image.Stat(path.Join(dir, name))
			if err != nil || info.IsDir() {
				continue
			}
			text := vfstest.ReadFile(t, image, path.Join(dir, name))
			parts := [][]byte{text}
			for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
				if block.Type == "PRIVATE KEY" || block.Type == "EC PRIVATE KEY" {
					return name + " is not encrypted"
				}
				for _, value := range block.Headers {
					if raw, err := base64.StdEncoding.DecodeString(value); err == nil {
						parts = append(parts, raw)
					}
				}
			}
			for _, secret := range append(keys.Read(), *keys.Write()) {
				for _, part := range parts {
					if bytes.Contains(part, secret[:]) {
						return name + " has a key of the log"
					}
				}
			}
		}
	}
	return ""
}

// Fault 37. TestAPowerCutWhileTheLockChangesLeavesOneKeyThatOpens cuts the power before every
// operation on the disk while the swarm's unlock key is made, replaced and dropped under
// load, each with all that follows from it. What is left opens with exactly one of the old
// and the new key, and when that is one, has nothing in the clear. A manager that starts on some of
// these goes on to what the swarm wants.
func TestAPowerCutWhileTheLockChangesLeavesOneKeyThatOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := mathrand.New(mathrand.NewPCG(1, 37))
		l := newLockable(t)
		defer l.end()
		ctx, stop := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		defer writing.Wait()
		defer stop()
		writing.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_ = l.manager.Store().Update(ctx, func(tx *store.Tx) error {
					return tx.Create(&api.Config{Id: model.NewID(rand.Reader), Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: fmt.Sprintf("c%d", i)}, Data: []byte("x")}})
				})
				time.Sleep(30 * time.Millisecond)
			}
		})
		var first, second, none ca.UnlockKey
		var err1, err2 error
		first, err1 = ca.NewUnlockKey()
		second, err2 = ca.NewUnlockKey()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			name     string
			old, new ca.UnlockKey
		}{{"locked", none, first}, {"another key", first, second}, {"not locked", second, none}, {"locked again", none, second}} {
			before, err := l.files.RaftKeys()
			if err != nil {
				t.Fatal(err)
			}
			cert := l.identity.Certificate().PEM()
			var mu sync.Mutex // several goroutines write
			looked, seen := map[string]bool{}, [2]int{}
			type left struct {
				what  string
				image *vfs.Mem
				key   ca.UnlockKey
			}
			var lefts []left
			l.disk.Trace(func(op vfs.Op, name string) {
				mu.Lock()
				defer mu.Unlock()
				cuts := 1
				if path.Dir(name) == lockCerts || name == lockCerts {
					cuts = 8
				}
				images := []*vfs.Mem{l.disk.Copy()}
				for range cuts {
					images = append(images, l.disk.Crash(random))
				}
				for _, image := range images {
					what := fingerprint(image)
					if looked[what] {
						continue
					}
					looked[what] = true
					oldErr, newErr := opens(image.Copy(), step.old), opens(image.Copy(), step.new)
					if (oldErr == nil) == (newErr == nil) {
						t.Errorf("%s: before %s of %s: the old key: %v; the new one: %v", step.name, op, name, oldErr, newErr)
						continue
					}
					key, which := step.old, 0
					if newErr == nil {
						key, which = step.new, 1
					}
					seen[which]++
					lefts = append(lefts, left{fmt.Sprintf("%s: left before %s of %s", step.name, op, name), image.Copy(), key})
					if key.IsZero() {
						continue
					}
					if what := exposed(t, image, key); what != "" {
						t.Errorf("%s: before %s of %s: %s", step.name, op, name, what)
					}
				}
			})
			if err := l.set(ctx, step.new); err != nil {
				t.Fatal(err)
			}
			l.settled(t, step.new, func() { time.Sleep(100 * time.Millisecond) })
			l.disk.Trace(nil)
			random.Shuffle(len(lefts), func(i, j int) { lefts[i], lefts[j] = lefts[j], lefts[i] })
			for _, left := range lefts[:min(len(lefts), 12)] {
				again := l.resume(t, left.image, left.key)
				want := again.wants(t)
				again.settled(t, want, func() { time.Sleep(100 * time.Millisecond) })
				if !want.IsZero() {
					if what := exposed(t, again.disk, want); what != "" {
						t.Errorf("%s: after another start %s", left.what, what)
					}
				}
				again.end()
				if t.Failed() {
					t.Fatal(left.what)
				}
			}
			if seen[0] == 0 || seen[1] == 0 {
				t.Errorf("%s: the test saw %v: it does not cover both outcomes", step.name, seen)
			}
			after, err := l.files.RaftKeys()
			if err != nil {
				t.Fatal(err)
			}
			// Keys that were in the clear are worth nothing any more; others stay.
			fresh := step.old.IsZero()
			if replaced := *before.Current != *after.Current; replaced != fresh {
				t.Errorf("%s: the log has a new key: %t, want %t", step.name, replaced, fresh)
			}
			if renewed := !bytes.Equal(cert, l.identity.Certificate().PEM()); renewed != fresh {
				t.Errorf("%s: the node has a new key: %t, want %t", step.name, renewed, fresh)
			}
		}
	})
}

// fingerprint tells images apart whose keys or files are not the same ones.
func fingerprint(image *vfs.Mem) string {
	what := ""
	for _, dir := range []string{lockCerts, lockDir + "/log", lockDir + "/snapshots"} {
		names, err := image.List(dir)
		what += fmt.Sprintf("%q %v ", names, err)
	}
	file, err := image.Open(lockCerts + "/swarm-node.key")
	if err != nil {
		return what + err.Error()
	}
	defer file.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(file)
	return fmt.Sprintf("%s %v %s", what, err, text.Bytes())
}
