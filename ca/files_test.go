package ca

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"skep/api"
	"skep/model"
	"skep/vfs"
	"skep/vfs/vfstest"
)

const certificates = "state/certificates"

func TestAnIdentityIsReadBackAsItWasSaved(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	cert := s.issue(t, "node1", api.NodeRole_MANAGER, begin, 0)
	dir := filepath.Join(t.TempDir(), "certificates")
	files := NewFiles(vfs.OS(), dir)
	if _, _, err := files.Load(begin); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("an empty directory: %v, want fs.ErrNotExist", err)
	}
	if err := files.Save(s.root, cert); err != nil {
		t.Fatal(err)
	}
	root, back, err := NewFiles(vfs.OS(), dir).Load(begin)
	if err != nil {
		t.Fatal(err)
	}
	if root.Digest() != s.root.Digest() || back.NodeID != "node1" || back.Role != api.NodeRole_MANAGER || !back.key.private.Equal(cert.key.private) {
		t.Errorf("read back as %s, %s", back.NodeID, back.Role)
	}
	for name, mode := range map[string]fs.FileMode{keyName: 0o600, "": 0o700} {
		info, err := vfs.OS().Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q has mode %v (%v), want %v", name, info.Mode().Perm(), err, mode)
		}
	}
	text := vfstest.ReadFile(t, vfs.OS(), filepath.Join(dir, keyName))
	if block, _ := pem.Decode(text); block == nil || block.Type != "PRIVATE KEY" {
		t.Errorf("the key is not PKCS#8 in PEM: %.40q", text)
	}
}

func TestTheRaftKeyOutlivesRenewals(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	files := NewFiles(vfs.NewMem(), certificates)
	if err := files.SetRaftKey([RaftKeySize]byte{1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a raft key without an identity: %v", err)
	}
	if err := files.Save(s.root, s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := files.RaftKey(); ok || err != nil {
		t.Fatalf("a new identity has a raft key: %v, %v", ok, err)
	}
	want := [RaftKeySize]byte{1, 2, 3}
	if err := files.SetRaftKey(want); err != nil {
		t.Fatal(err)
	}
	if err := files.Save(s.root, s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := files.RaftKey(); got != want || !ok || err != nil {
		t.Errorf("raft key %v, %v, %v; want %v", got, ok, err, want)
	}
	if _, _, err := files.Load(begin); err != nil {
		t.Error(err)
	}
}

func TestHeadersOfOthersAreKept(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	cert := s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)
	mem := vfs.NewMem()
	files := NewFiles(mem, certificates)
	if err := files.Save(s.root, cert); err != nil {
		t.Fatal(err)
	}
	text, err := keyFile{key: cert.key, headers: map[string]string{"kek-version": "7"}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	vfstest.WriteFile(t, mem, certificates+"/"+keyName, text)
	if err := files.SetRaftKey([RaftKeySize]byte{9}); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(vfstest.ReadFile(t, mem, certificates+"/"+keyName))
	if block.Headers["kek-version"] != "7" {
		t.Errorf("headers %v", block.Headers)
	}
}

func TestDamagedFilesSayWhatToDo(t *testing.T) {
	t.Parallel()
	s, other := newSwarm(t, "cluster"), newSwarm(t, "other")
	cert := s.issue(t, "n", api.NodeRole_WORKER, begin, 0)
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	badHeader, _ := keyFile{key: cert.key, headers: map[string]string{raftKeyHeader: "!"}}.encode()
	shortHeader, _ := keyFile{key: cert.key, headers: map[string]string{raftKeyHeader: "EgEx"}}.encode()
	tests := []struct {
		name, file string
		text       []byte // nil removes it
		want       string
	}{
		{"no root", rootFile, nil, "it is missing"},
		{"no key", keyName, nil, "it is missing"},
		{"empty root", rootFile, []byte{}, "no PEM certificate"},
		{"garbage key", keyName, []byte("garbage"), "no PEM block"},
		{"empty key", keyName, []byte{}, "no PEM block"},
		{"locked key", keyName, encrypted, "unlock key"},
		{"key of another kind", keyName, s.root.PEM(), "no private key"},
		{"garbage certificate", certFile, []byte("garbage"), "no PEM certificate"},
		{"certificate of another key", certFile, s.issue(t, "n", api.NodeRole_WORKER, begin, 0).PEM(), "another key"},
		{"certificate of another swarm", certFile, other.issue(t, "n", api.NodeRole_WORKER, begin, 0).PEM(), "another key"},
		{"huge file", keyName, make([]byte, maxFile+1), "larger than"},
		{"raft key that is no base64", keyName, badHeader, "raft-dek"},
		{"raft key that is too short", keyName, shortHeader, "holds 1 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewMem()
			files := NewFiles(mem, certificates)
			if err := files.Save(s.root, cert); err != nil {
				t.Fatal(err)
			}
			full := certificates + "/" + test.file
			if test.text == nil {
				if err := mem.Remove(full); err != nil {
					t.Fatal(err)
				}
			} else {
				vfstest.WriteFile(t, mem, full, test.text)
			}
			_, _, err := files.Load(begin)
			if strings.HasPrefix(test.name, "raft key") {
				_, _, err = files.RaftKey()
			}
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("error %v, want one that is not fs.ErrNotExist", err)
			}
			advice := "remove the state directory and join again"
			if model.KindOf(err) == model.Precondition {
				advice = "cannot be used"
			}
			for _, want := range []string{test.want, test.file, advice} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestAClockBeforeTheRootIsNamed(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	files := NewFiles(vfs.NewMem(), certificates)
	if err := files.Save(s.root, s.issue(t, "n", api.NodeRole_WORKER, begin, 0)); err != nil {
		t.Fatal(err)
	}
	_, _, err := files.Load(begin.AddDate(-1, 0, 0))
	if err == nil || !strings.Contains(err.Error(), "set the clock") || model.KindOf(err) != model.Precondition {
		t.Errorf("error %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "remove the state directory") {
		t.Errorf("a wrong clock is no reason to start over: %v", err)
	}
}

// Whatever a power cut leaves of a renewal, the node has its old identity or its
// new one, and the raft log's key. Fault 5 of the reliability promises: the certificate.
func TestAPowerCutAnywhereInARenewalLeavesOneWholeIdentity(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	first := s.issue(t, "n", api.NodeRole_WORKER, begin, 0)
	second := s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)
	raftKey := [RaftKeySize]byte{42}
	seen := make(map[api.NodeRole]int)
	const changing = vfs.OpCreate | vfs.OpWrite | vfs.OpSync | vfs.OpRemove | vfs.OpRename | vfs.OpMkdir | vfs.OpSyncDir
	// Stop after each operation in turn, then look at every state that it leaves.
	for steps := 0; ; steps++ {
		mem := vfs.NewMem()
		files := NewFiles(mem, certificates)
		if err := errors.Join(files.Save(s.root, first), files.SetRaftKey(raftKey)); err != nil {
			t.Fatal(err)
		}
		var images []*vfs.Mem
		stopped := errors.New("the machine stops")
		fault := mem.Inject(vfs.Rule{Op: changing, Skip: steps, Err: stopped})
		err := files.Save(s.root, second)
		fault.Remove()
		if err != nil && !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		for seed := range uint64(20) {
			images = append(images, mem.Crash(rand.New(rand.NewPCG(uint64(steps), seed))))
		}
		for i, image := range append(images, mem.Copy()) {
			again := NewFiles(image, certificates)
			_, cert, loadErr := again.Load(begin)
			if loadErr != nil {
				t.Fatalf("stopped after %d operations, image %d: %v", steps, i, loadErr)
			}
			if got, ok, keyErr := again.RaftKey(); keyErr != nil || !ok || got != raftKey {
				t.Fatalf("stopped after %d operations, image %d: raft key %v, %v", steps, i, ok, keyErr)
			}
			if err == nil && cert.Role != second.Role {
				t.Fatalf("image %d: Save returned, and the old certificate is back", i)
			}
			seen[cert.Role]++
		}
		if err == nil {
			break
		}
	}
	if seen[first.Role] == 0 || seen[second.Role] == 0 {
		t.Errorf("the test saw %v: it does not cover both outcomes", seen)
	}
}

// Fault 10 of the reliability promises: the certificate.
func TestAFullDiskLeavesTheOldIdentity(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	mem := vfs.NewMem()
	files := NewFiles(mem, certificates)
	if err := files.Save(s.root, s.issue(t, "n", api.NodeRole_WORKER, begin, 0)); err != nil {
		t.Fatal(err)
	}
	mem.SetCapacity(mem.Used() + 10)
	next := s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)
	if err := files.Save(s.root, next); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	if _, cert, err := files.Load(begin); err != nil || cert.Role != api.NodeRole_WORKER {
		t.Fatalf("%v, %v", cert, err)
	}
	mem.SetCapacity(1 << 20)
	if err := files.Save(s.root, next); err != nil {
		t.Fatalf("with space again: %v", err)
	}
	if _, cert, err := files.Load(begin); err != nil || cert.Role != api.NodeRole_MANAGER {
		t.Fatalf("%v, %v", cert, err)
	}
}

// TestARenewalThatAFullDiskCutShortIsMadeGoodByTheNext has a renewal fail for lack of space at
// each operation on the disk, and then another one, before each operation of which the power
// may be cut: there is a whole identity at any time.
// Fault 10 of the reliability promises: the certificate.
func TestARenewalThatAFullDiskCutShortIsMadeGoodByTheNext(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	first := s.issue(t, "n", api.NodeRole_WORKER, begin, 0)
	second, third := s.issue(t, "n", api.NodeRole_MANAGER, begin, 0), s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)
	const spacious = vfs.OpCreate | vfs.OpWrite | vfs.OpSync | vfs.OpRename | vfs.OpMkdir | vfs.OpSyncDir
	random := rand.New(rand.NewPCG(1, 10))
	for steps, failed := 0, true; failed; steps++ {
		mem := vfs.NewMem()
		files := NewFiles(mem, certificates)
		if err := errors.Join(files.Save(s.root, first), files.SetRaftKey([RaftKeySize]byte{42})); err != nil {
			t.Fatal(err)
		}
		fault := mem.Inject(vfs.Rule{Op: spacious, Skip: steps, Err: syscall.ENOSPC})
		err := files.Save(s.root, second)
		failed = err != nil
		if failed && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if again := files.Save(s.root, third); again == nil && failed {
			t.Fatalf("after %d operations: there is no space, and the next renewal has its files", steps)
		}
		fault.Remove()
		whole := func(when string, image *vfs.Mem) {
			t.Helper()
			left := NewFiles(image, certificates)
			if _, _, err := left.Load(begin); err != nil {
				t.Fatalf("no space after %d operations, %s: %v", steps, when, err)
			}
			if _, ok, err := left.RaftKey(); !ok || err != nil {
				t.Fatalf("no space after %d operations, %s: the raft log's key: %t, %v", steps, when, ok, err)
			}
		}
		mem.Trace(func(op vfs.Op, name string) {
			when := "and a power cut before " + op.String() + " of " + name
			for range 3 {
				whole(when, mem.Crash(random))
			}
			whole(when, mem.Copy())
		})
		if err := files.Save(s.root, third); err != nil {
			t.Fatalf("with space again, after %d operations without: %v", steps, err)
		}
		mem.Trace(nil)
		if _, cert, err := NewFiles(mem.Crash(random), certificates).Load(begin); err != nil || !third.key.private.Equal(cert.key.private) {
			t.Fatalf("with space again, after %d operations without: the identity is not the last one (%v)", steps, err)
		}
	}
}

func TestRenewalComesBetweenHalfAndFourFifthsOfTheLifetime(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	cert := s.issue(t, "n", api.NodeRole_WORKER, begin, 100*time.Hour)
	issued := cert.NotBefore.Add(backdate)
	for where, want := range map[float64]time.Duration{0: 50 * time.Hour, 0.5: 65 * time.Hour, 1: 80 * time.Hour} {
		if got := RenewAt(cert, where).Sub(issued).Round(time.Second); got != want {
			t.Errorf("RenewAt(%v) = %s after it was issued, want %s", where, got, want)
		}
	}
	short := s.issue(t, "n", api.NodeRole_WORKER, begin, time.Hour)
	if got := RenewAt(short, 0); got.Before(begin.Add(25 * time.Minute)) {
		t.Errorf("a certificate of one hour is renewed at %s, it was issued at %s", got, begin)
	}
}
