package ca

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"skep/api"
	"skep/model"
	"skep/vfs"
	"skep/vfs/vfstest"
)

const changing = vfs.OpCreate | vfs.OpWrite | vfs.OpSync | vfs.OpRemove | vfs.OpRename | vfs.OpMkdir | vfs.OpSyncDir

func testKEK(b byte) []byte { return bytes.Repeat([]byte{b}, kekSize) }

// manager makes files of a manager with a raft key.
func managerFiles(t *testing.T, s swarm, mem *vfs.Mem) *Files {
	t.Helper()
	files := NewFiles(mem, certificates)
	if err := errors.Join(files.Save(s.root, s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)), files.SetRaftKey([RaftKeySize]byte{42})); err != nil {
		t.Fatal(err)
	}
	return files
}

func TestALockedManagerNeedsItsUnlockKey(t *testing.T) {
	t.Parallel()
	s, mem := newSwarm(t, "cluster"), vfs.NewMem()
	files := managerFiles(t, s, mem)
	if err := files.SetKEK(5, testKEK(1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := files.Load(begin); err != nil {
		t.Errorf("whoever locked it can no longer read it: %v", err)
	}
	again := NewFiles(mem, certificates)
	for name, err := range map[string]error{
		"Load":          third(again.Load(begin)),
		"RaftKey":       third(again.RaftKey()),
		"SetRaftKey":    again.SetRaftKey([RaftKeySize]byte{1}),
		"SetKEK":        again.SetKEK(6, nil),
		"Save":          again.Save(s.root, s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)),
		"BeginRotation": second(again.BeginRotation()),
	} {
		if !errors.Is(err, ErrLocked) || model.KindOf(err) != model.Precondition {
			t.Errorf("%s of a locked manager: %v, want %v", name, err, ErrLocked)
		}
	}
	before := vfstest.ReadFile(t, mem, certificates+"/"+keyName)
	if err := again.Unlock(testKEK(2)); !errors.Is(err, ErrWrongKEK) || errors.Is(err, ErrLocked) {
		t.Errorf("a wrong key: %v, want %v", err, ErrWrongKEK)
	}
	if err := again.Unlock([]byte("short")); model.KindOf(err) != model.Invalid {
		t.Errorf("a short key: %v", err)
	}
	if !bytes.Equal(before, vfstest.ReadFile(t, mem, certificates+"/"+keyName)) {
		t.Error("wrong keys changed the file")
	}
	if err := again.Unlock(testKEK(1)); err != nil {
		t.Fatal(err)
	}
	if _, cert, err := again.Load(begin); err != nil || cert.NodeID != "n" {
		t.Fatalf("unlocked: %v, %v", cert, err)
	}
	if key, ok, err := again.RaftKey(); err != nil || !ok || key != [RaftKeySize]byte{42} {
		t.Fatalf("unlocked, the raft key is %v, %v", ok, err)
	}
	// A new certificate keeps the lock, and ends that the node key was exposed.
	want := LockState{Locked: true, Version: 5, Rotate: true, Renew: true}
	if got, err := again.LockState(); got != want || err != nil {
		t.Errorf("state %+v, %v; want %+v", got, err, want)
	}
	if err := again.Save(s.root, s.issue(t, "n", api.NodeRole_MANAGER, begin, 0)); err != nil {
		t.Fatal(err)
	}
	want.Renew = false
	if got, err := again.LockState(); got != want || err != nil {
		t.Errorf("state after a renewal %+v, %v; want %+v", got, err, want)
	}
	if third(NewFiles(mem, certificates).Load(begin)) == nil {
		t.Error("a renewal took the lock away")
	}
	if err := again.SetKEK(7, nil); err != nil {
		t.Fatal(err)
	}
	if key, ok, err := NewFiles(mem, certificates).RaftKey(); err != nil || !ok || key != [RaftKeySize]byte{42} {
		t.Errorf("without the lock the raft key is %v, %v", ok, err)
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func TestOnlyANewerVersionChangesTheLock(t *testing.T) {
	t.Parallel()
	s, mem := newSwarm(t, "cluster"), vfs.NewMem()
	files := managerFiles(t, s, mem)
	for _, step := range []struct {
		version uint64
		kek     []byte
		opens   []byte
	}{
		{3, nil, nil}, // it is not locked as it is
		{5, testKEK(1), testKEK(1)},
		{5, testKEK(2), testKEK(1)},
		{4, nil, testKEK(1)},
		{9, testKEK(1), testKEK(1)}, // the same key
		{10, testKEK(3), testKEK(3)},
		{11, nil, nil},
		{10, testKEK(1), nil},
	} {
		if err := files.SetKEK(step.version, step.kek); err != nil {
			t.Fatal(err)
		}
		if err := opensWith(mem, step.opens); err != nil {
			t.Errorf("after version %d: %v", step.version, err)
		}
	}
}

// opensWith checks that the key file opens with kek, or without one if it is nil, and
// holds a raft key.
func opensWith(mem *vfs.Mem, kek []byte) error {
	files := NewFiles(mem, certificates)
	if kek != nil {
		if err := third(files.Load(begin)); !errors.Is(err, ErrLocked) {
			return fmt.Errorf("it is not locked: %w", err)
		}
		if err := files.Unlock(kek); err != nil {
			return err
		}
	}
	if err := third(files.Load(begin)); err != nil {
		return err
	}
	key, ok, err := files.RaftKey()
	if err == nil && (!ok || key == [RaftKeySize]byte{}) {
		err = errors.New("the raft key is gone")
	}
	return err
}

// Fault 37 of the reliability promises: the key file.
func TestAfterAPowerCutExactlyOneOfOldAndNewKeyOpensTheFile(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	for _, c := range []struct {
		name     string
		old, new []byte
	}{
		{"lock", nil, testKEK(1)}, {"other key", testKEK(1), testKEK(2)}, {"no lock", testKEK(1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewMem()
			files := managerFiles(t, s, mem)
			if err := files.SetKEK(1, c.old); err != nil {
				t.Fatal(err)
			}
			seen, looked := [2]int{}, map[string]bool{}
			check := func(op, says string, image *vfs.Mem) {
				// How much there is of the new file under its other name makes no
				// difference, whether there is one might.
				names, err := image.List(certificates)
				if err != nil {
					t.Fatal(err)
				}
				what := fmt.Sprintf("%q %s", names, vfstest.ReadFile(t, image, certificates+"/"+keyName))
				if looked[what] {
					return
				}
				looked[what] = true
				oldErr, newErr := opensWith(image.Copy(), c.old), opensWith(image.Copy(), c.new)
				switch {
				case (oldErr == nil) == (newErr == nil):
					t.Fatalf("before %s, %s: the old key: %v; the new one: %v", op, says, oldErr, newErr)
				case oldErr == nil:
					seen[0]++
				default:
					seen[1]++
				}
			}
			mem.Trace(func(op vfs.Op, name string) {
				for says, image := range mem.CrashImages() {
					check(op.String()+" "+name, says, image)
				}
			})
			if err := files.SetKEK(2, c.new); err != nil {
				t.Fatal(err)
			}
			mem.Trace(nil)
			for says, image := range mem.CrashImages() {
				check("the end", says, image)
				if err := opensWith(image, c.new); err != nil {
					t.Errorf("SetKEK returned, and the new key does not open it: %v", err)
				}
			}
			if seen[0] == 0 || seen[1] == 0 {
				t.Errorf("the test saw %v: it does not cover both outcomes", seen)
			}
		})
	}
}

// Whatever operation fails, the process that goes on knows the key of its file.
func TestAFailedChangeOfTheLockIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	for steps := 0; ; steps++ {
		mem := vfs.NewMem()
		files := managerFiles(t, s, mem)
		if err := files.SetKEK(1, testKEK(1)); err != nil {
			t.Fatal(err)
		}
		fault := mem.Inject(vfs.Rule{Op: changing, Skip: steps, Count: 1, Err: syscall.ENOSPC})
		err := files.SetKEK(2, testKEK(2))
		fault.Remove()
		if err == nil && fault.Hits() == 0 {
			break
		}
		if err := third(files.Load(begin)); err != nil {
			t.Fatalf("operation %d failed: %v", steps, err)
		}
		if err := errors.Join(files.SetKEK(2, testKEK(2)), opensWith(mem, testKEK(2))); err != nil {
			t.Fatalf("operation %d failed, and again: %v", steps, err)
		}
	}
}

// Fault 37 of the reliability promises: the key file.
func TestAPowerCutInARotationOfTheRaftKeyLosesNeitherKey(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	for _, kek := range [][]byte{nil, testKEK(1)} {
		mem := vfs.NewMem()
		files := managerFiles(t, s, mem)
		if err := files.SetKEK(1, kek); err != nil {
			t.Fatal(err)
		}
		var step string
		var fresh *[RaftKeySize]byte // once BeginRotation returned
		mem.Trace(func(op vfs.Op, name string) {
			for says, image := range mem.CrashImages() {
				at := NewFiles(image, certificates)
				if kek != nil {
					if err := at.Unlock(kek); err != nil {
						t.Fatal(err)
					}
				}
				keys, err := at.RaftKeys()
				if err != nil || keys.Current == nil {
					t.Fatalf("%s, before %s of %s, %s: %v", step, op, name, says, err)
				}
				old := *keys.Current == [RaftKeySize]byte{42}
				switch {
				case step == "begin" && !old:
					t.Fatalf("%s: the old key is gone", says)
				case step == "finish" && (*keys.Write() != *fresh || old == (keys.Pending == nil)):
					t.Fatalf("%s: keys are lost, pending %v", says, keys.Pending != nil)
				}
			}
		})
		step = "begin"
		keys, err := files.BeginRotation()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := files.BeginRotation(); err != nil || *again.Pending != *keys.Pending {
			t.Errorf("a rotation that began twice has two keys: %v", err)
		}
		fresh = keys.Pending
		step = "finish"
		if err := errors.Join(files.FinishRotation(), files.FinishRotation()); err != nil {
			t.Fatal(err)
		}
		mem.Trace(nil)
		if got, err := files.RaftKeys(); err != nil || *got.Current != *fresh || got.Pending != nil {
			t.Errorf("the rotation did not end: %v", err)
		}
		if state, err := files.LockState(); err != nil || state.Rotate {
			t.Errorf("it wants another rotation: %+v, %v", state, err)
		}
	}
}

func TestLockingDuringARotationCallsForAnother(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	files := managerFiles(t, s, vfs.NewMem())
	if _, err := files.BeginRotation(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(files.SetKEK(1, testKEK(1)), files.FinishRotation()); err != nil {
		t.Fatal(err)
	}
	if state, err := files.LockState(); err != nil || !state.Rotate {
		t.Errorf("the pending key was on disk in the clear, and stays: %+v, %v", state, err)
	}
}

func TestALockedKeyFileHoldsNoKeyInTheClear(t *testing.T) {
	t.Parallel()
	s, mem := newSwarm(t, "cluster"), vfs.NewMem()
	files := managerFiles(t, s, mem)
	if err := files.SetKEK(1, testKEK(1)); err != nil {
		t.Fatal(err)
	}
	keys, err := files.BeginRotation()
	if err != nil {
		t.Fatal(err)
	}
	_, cert, err := files.Load(begin)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := cert.key.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	names, err := mem.List(certificates)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text := vfstest.ReadFile(t, mem, certificates+"/"+name)
		found := [][]byte{text}
		block, _ := pem.Decode(text)
		found = append(found, block.Bytes)
		for _, value := range block.Headers {
			found = append(found, fromBase64(value))
		}
		for _, in := range found {
			for what, secret := range map[string][]byte{"node key": scalar, "raft key": keys.Current[:], "pending key": keys.Pending[:]} {
				if bytes.Contains(in, secret) {
					t.Errorf("the %s is in %s in the clear", what, name)
				}
			}
		}
	}
	for _, text := range []string{fmt.Sprint(keys), fmt.Sprintf("%#v", keys), keys.LogValue().String()} {
		if text != "[secret]" {
			t.Errorf("keys print as %q", text)
		}
	}
}

func fromBase64(text string) []byte {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil // a header that holds no record
	}
	return b
}
