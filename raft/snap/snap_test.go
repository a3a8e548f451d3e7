package snap_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/raft/seal"
	"skep/raft/snap"
	"skep/vfs"
	"skep/vfs/vfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDir(t testing.TB, m *vfs.Mem) snap.Dir {
	t.Helper()
	if err := vfs.MakeDir(m, "snapshots"); err != nil {
		t.Fatal(err)
	}
	return dir(m)
}

func dir(m *vfs.Mem) snap.Dir { return snap.Dir{FS: m, Path: "snapshots", Key: seal.Key{1}} }

func meta(index uint64) snap.Meta {
	return snap.Meta{
		Index: index, Term: 3,
		Conf:    raftpb.EnsureConfState(&raftpb.ConfState{Voters: []uint64{7, 9}, Learners: []uint64{11}}),
		Members: []*api.RaftMember{{RaftId: 7, NodeId: "node", Addr: "10.0.0.1:2377"}, {RaftId: 9}},
		Removed: []uint64{1, 2}, ID: 7, Owner: "node",
	}
}

// save writes a snapshot in writes of several sizes.
func save(d snap.Dir, index uint64, state []byte) error {
	_, err := d.Write(meta(index), func(w io.Writer) error {
		for size := 1; len(state) > 0; size = size*3 + 1 {
			n, err := w.Write(state[:min(size, len(state))])
			if err != nil {
				return err
			}
			state = state[n:]
		}
		return nil
	})
	return err
}

func load(d snap.Dir, index uint64) ([]byte, snap.Meta, error) {
	r, err := d.Open(index)
	if err != nil {
		return nil, snap.Meta{}, err
	}
	state, err := io.ReadAll(r)
	return state, r.Meta, errors.Join(err, r.Close())
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b)
	return b
}

func TestASnapshotIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 1000, 256 << 10, 256<<10 + 1, 3 << 20} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			t.Parallel()
			d := newDir(t, vfs.NewMem())
			want := randomBytes(size)
			if err := save(d, 42, want); err != nil {
				t.Fatal(err)
			}
			got, m, err := load(d, 42)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes are read that are not the %d written", len(got), len(want))
			}
			w := meta(42)
			if m.Index != w.Index || m.Term != w.Term || m.ID != w.ID || m.Owner != w.Owner ||
				!proto.Equal(m.Conf, w.Conf) || !slices.Equal(m.Removed, w.Removed) ||
				!slices.EqualFunc(m.Members, w.Members, func(a, b *api.RaftMember) bool { return proto.Equal(a, b) }) {
				t.Errorf("the metadata is %+v, want %+v", m, w)
			}
		})
	}
}

// Fault 8 of the reliability promises.
func TestAnyDamageOfASnapshotIsNoticedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	d := newDir(t, m)
	if err := save(d, 42, randomBytes(2000)); err != nil {
		t.Fatal(err)
	}
	name := d.File(42)
	good := vfstest.ReadFile(t, m, name)
	check := func(what string, bad []byte) {
		t.Helper()
		m := m.Copy()
		vfstest.WriteFile(t, m, name, bad)
		_, err := dir(m).Verify(42)
		var damage *seal.DamageError
		if !errors.As(err, &damage) || damage.File != name || damage.Advice == "" {
			t.Fatalf("%s: got %v, want a damage error for %s", what, err, name)
		}
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		check(fmt.Sprintf("byte %d is altered", i), bad)
		check(fmt.Sprintf("cut short at %d", i), good[:i])
		check(fmt.Sprintf("zeros from %d on", i), append(good[:i:i], make([]byte, len(good)-i)...))
	}
}

func TestASnapshotUnderAnotherNameIsRefused(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	d := newDir(t, m)
	if err := save(d, 42, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.Rename(d.File(42), d.File(43)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Verify(43); err == nil || !strings.Contains(err.Error(), "another name") {
		t.Errorf("got %v", err)
	}
}

func TestAnotherKeyIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	d := newDir(t, vfs.NewMem())
	if err := save(d, 42, nil); err != nil {
		t.Fatal(err)
	}
	d.Key = seal.Key{2}
	if _, err := d.Verify(42); !errors.Is(err, seal.ErrKey) {
		t.Errorf("got %v, want %v", err, seal.ErrKey)
	}
}

func TestTidyKeepsWhatItIsToldAndWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	d := newDir(t, m)
	for index := range uint64(5) {
		if err := save(d, index+1, nil); err != nil {
			t.Fatal(err)
		}
	}
	vfstest.WriteFile(t, m, d.File(9)+".tmp", []byte("half"))
	vfstest.WriteFile(t, m, path.Join(d.Path, "README"), []byte("mine"))
	if err := d.Tidy(3, 5); err != nil {
		t.Fatal(err)
	}
	indexes, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint64{5, 3}; !slices.Equal(indexes, want) {
		t.Errorf("got %v, want %v", indexes, want)
	}
	names, err := m.List(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 3 || !slices.Contains(names, "README") {
		t.Errorf("left are %q", names)
	}
}

// TestACrashLeavesAWholeSnapshotOrNone looks at the disk before each operation.
// Fault 9 of the reliability promises.
func TestACrashLeavesAWholeSnapshotOrNone(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	d := newDir(t, m)
	if err := save(d, 1, []byte("old")); err != nil {
		t.Fatal(err)
	}
	images := 0
	check := func(least uint64) {
		for what, image := range m.CrashImages() {
			images++
			indexes, err := dir(image).List()
			if err != nil {
				t.Fatal(err)
			}
			if len(indexes) == 0 || indexes[0] < least {
				t.Fatalf("%s: left are %v, want %d", what, indexes, least)
			}
			want := map[uint64]string{1: "old", 2: "new"}[indexes[0]]
			if got, _, err := load(dir(image), indexes[0]); err != nil || string(got) != want {
				t.Fatalf("%s: snapshot %d holds %q (%v), want %q", what, indexes[0], got, err, want)
			}
		}
	}
	least := uint64(1)
	m.Trace(func(vfs.Op, string) { check(least) })
	if err := save(d, 2, []byte("new")); err != nil {
		t.Fatal(err)
	}
	least = 2
	if err := d.Tidy(2); err != nil {
		t.Fatal(err)
	}
	check(2)
	t.Logf("%d images", images)
}

// Fault 10 of the reliability promises: a snapshot.
func TestAFullDiskLeavesNoHalfSnapshot(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	d := newDir(t, m)
	m.SetCapacity(1 << 20)
	if err := save(d, 1, randomBytes(2<<20)); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), d.File(1)) {
		t.Fatalf("got %v, want ENOSPC and the name of the file", err)
	}
	if m.Used() != 0 {
		t.Errorf("%d bytes are left", m.Used())
	}
}

func TestAFailedSyncIsAnError(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	d := newDir(t, m)
	for op, name := range map[vfs.Op]string{vfs.OpSync: "*.tmp", vfs.OpRename: "*.tmp", vfs.OpSyncDir: "snapshots"} {
		fault := m.Inject(vfs.Rule{Op: op, Name: name, Err: syscall.EIO})
		if err := save(d, 1, []byte("x")); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: got %v, want EIO", op, err)
		}
		fault.Remove()
	}
}

// FuzzVerify reads a snapshot file that is anything at all.
func FuzzVerify(f *testing.F) {
	m := vfs.NewMem()
	d := newDir(f, m)
	if err := save(d, 1, []byte("some state")); err != nil {
		f.Fatal(err)
	}
	good := vfstest.ReadFile(f, m, d.File(1))
	f.Add(good)
	f.Add(good[:seal.HeaderSize])
	f.Add([]byte("SKEPSNAP"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := m.Copy()
		vfstest.WriteFile(t, m, d.File(1), data)
		if state, _, err := load(dir(m), 1); err == nil && string(state) != "some state" {
			t.Fatalf("a snapshot that nobody wrote is read: %q", state)
		}
	})
}

// FuzzMeta puts anything at all where the metadata stands.
func FuzzMeta(f *testing.F) {
	f.Add([]byte{10, 4, 16, 1, 24, 1})
	f.Add([]byte{24, 255})
	f.Fuzz(func(t *testing.T, content []byte) {
		m := vfs.NewMem()
		d := newDir(t, m)
		header, box, err := seal.New(seal.Kind{Magic: "SKEPSNAP", Format: 1}, seal.Key{1})
		if err != nil {
			t.Fatal(err)
		}
		vfstest.WriteFile(t, m, d.File(1), box.Seal(box.Seal(header, 0, 0, content), 1, 1, nil))
		if meta, err := d.Verify(1); err == nil && (meta.Index != 1 || meta.Conf == nil) {
			t.Fatalf("metadata of snapshot %d passes for that of 1", meta.Index)
		}
	})
}
