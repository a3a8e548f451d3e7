package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"skep/vfs"
)

// create makes a file whose name and content are durable.
func create(t *testing.T, m *vfs.Mem, name, content string) vfs.File {
	t.Helper()
	f, err := m.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	put(t, f, content, 0)
	if err := errors.Join(f.Sync(), m.SyncDir(path.Dir(name))); err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t *testing.T, f vfs.File, content string, off int64) {
	t.Helper()
	if _, err := f.WriteAt([]byte(content), off); err != nil {
		t.Fatal(err)
	}
}

// content reads all files in a directory as "name=content", sorted.
func content(t *testing.T, m *vfs.Mem, dir string) string {
	t.Helper()
	names, err := m.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range names {
		f, err := m.Open(path.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name+"="+strings.ReplaceAll(string(b), "\x00", "."))
	}
	return strings.Join(all, " ")
}

// images returns the different contents of all crash images.
func images(t *testing.T, m *vfs.Mem, dir string) []string {
	t.Helper()
	seen := map[string]bool{}
	for says, image := range m.CrashImages() {
		if _, err := image.List(dir); errors.Is(err, fs.ErrNotExist) {
			seen["no directory"] = true
			continue
		}
		if says == "" && len(seen) > 0 {
			t.Error("an image does not say what it is")
		}
		seen[content(t, image, dir)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func wantImages(t *testing.T, m *vfs.Mem, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := images(t, m, dir); !slices.Equal(got, want) {
		t.Errorf("crash images\n got %q\nwant %q", got, want)
	}
}

func TestACrashKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	create(t, m, "a", "x")
	wantImages(t, m, ".", "a=x")
}

func TestACrashMayLoseOrTearWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "a", "x")
	put(t, f, "yz", 1)
	wantImages(t, m, ".", "a=x", "a=xy", "a=xyz")
	put(t, f, "w", 3)
	wantImages(t, m, ".", "a=x", "a=xy", "a=xyz", "a=x..w", "a=xyzw")
}

func TestACrashMayLoseSectorsOfOneWrite(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "a", "")
	put(t, f, strings.Repeat("a", 512)+strings.Repeat("b", 512)+"c", 0)
	if got, want := images(t, m, "."), "a="+strings.Repeat(".", 512)+strings.Repeat("b", 512)+"c"; !slices.Contains(got, want) {
		t.Error("no image lacks the first sector only")
	}
}

func TestACrashMayLoseANameOrARename(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "old", "x")
	g, err := m.Create("new.tmp")
	if err != nil {
		t.Fatal(err)
	}
	put(t, g, "y", 0)
	if err := g.Sync(); err != nil {
		t.Fatal(err)
	}
	wantImages(t, m, ".", "old=x", "new.tmp=y old=x")
	if err := m.Rename("new.tmp", "old"); err != nil {
		t.Fatal(err)
	}
	wantImages(t, m, ".", "old=x", "new.tmp=y old=x", "old=y")
	if err := m.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	wantImages(t, m, ".", "old=y")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestACrashMayLoseANewDirectory(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	if err := m.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	create(t, m, "d/a", "x")
	wantImages(t, m, "d", "no directory", "a=x")
	m = vfs.NewMem()
	if err := vfs.MakeDir(m, "d/e"); err != nil {
		t.Fatal(err)
	}
	wantImages(t, m, "d/e", "")
}

func TestARandomCrashIsOneOfTheImages(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "a", "x")
	put(t, f, "yz", 1)
	create(t, m, "b", "1")
	if err := m.Remove("b"); err != nil {
		t.Fatal(err)
	}
	all := images(t, m, ".")
	seen := map[string]bool{}
	for seed := range uint64(500) {
		got := content(t, m.Crash(rand.New(rand.NewPCG(seed, 0))), ".")
		if !slices.Contains(all, got) {
			t.Fatalf("seed %d: %q is none of %q", seed, got, all)
		}
		seen[got] = true
	}
	if len(seen) != len(all) {
		t.Errorf("500 crashes showed %d of %d images", len(seen), len(all))
	}
}

func TestACopyKeepsWhatAKilledProcessWrote(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f, err := m.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	put(t, f, "x", 0)
	c := m.Copy()
	put(t, f, "y", 0)
	if got := content(t, c, "."); got != "a=x" {
		t.Errorf("the copy holds %q, want %q", got, "a=x")
	}
	wantImages(t, c, ".", "a=x")
}

func TestAfterAFailedSyncALaterOneSavesNothing(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "a", "x")
	put(t, f, "y", 1)
	fault := m.Inject(vfs.Rule{Op: vfs.OpSync, Name: "a", Count: 1, Err: syscall.EIO})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync got %v, want EIO", err)
	}
	put(t, f, "z", 2)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	wantImages(t, m, ".", "a=x.z")
	if got := content(t, m, "."); got != "a=xyz" {
		t.Errorf("programs see %q, want %q", got, "a=xyz")
	}
	if fault.Hits() != 1 {
		t.Errorf("the fault took hold %d times, want once", fault.Hits())
	}
}

func TestAFaultTakesHoldWhereItsRuleSays(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "a.log", "")
	fault := m.Inject(vfs.Rule{Op: vfs.OpWrite, Name: "*.log", Skip: 1, Count: 1, Err: syscall.EIO})
	put(t, f, "ab", 0)
	n, err := f.WriteAt([]byte("cdef"), 2)
	if n != 2 || !errors.Is(err, syscall.EIO) {
		t.Fatalf("the second write wrote %d bytes and got %v, want 2 and EIO", n, err)
	}
	put(t, f, "gh", 2)
	create(t, m, "b", "x")
	fault.Remove()
	if fault.Hits() != 1 {
		t.Errorf("the fault took hold %d times, want once", fault.Hits())
	}
}

func TestAFullDiskWritesWhatFits(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := create(t, m, "a", "1234")
	m.SetCapacity(6)
	n, err := f.WriteAt([]byte("5678"), 4)
	if n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the write wrote %d bytes and got %v, want 2 and ENOSPC", n, err)
	}
	put(t, f, "abcdef", 0) // what is there may be overwritten
	if err := m.Remove("a"); err != nil {
		t.Fatal(err)
	}
	create(t, m, "b", "123456")
	if m.Used() != 6 {
		t.Errorf("%d bytes are used, want 6", m.Used())
	}
}

func TestASlowSyncCoversWhatWasWrittenBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		f := create(t, m, "a", "")
		m.Inject(vfs.Rule{Op: vfs.OpSync, Delay: time.Second})
		put(t, f, "x", 0)
		began := time.Now()
		go func() {
			time.Sleep(time.Second / 2)
			put(t, f, "y", 1)
		}()
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("sync took %s, want 1s", took)
		}
		wantImages(t, m, ".", "a=x", "a=xy")
	})
}

func TestTraceSeesEachStepBeforeItHappens(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	var steps []string
	m.Trace(func(op vfs.Op, name string) {
		steps = append(steps, op.String()+" "+name+" ["+content(t, m.Copy(), ".")+"]")
	})
	create(t, m, "a", "x")
	want := []string{"create a []", "write a [a=]", "sync a [a=x]", "syncdir  [a=x]"}
	if !slices.Equal(steps, want) {
		t.Errorf("got steps %q, want %q", steps, want)
	}
}
