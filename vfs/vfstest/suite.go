package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"testing"

	"skep/vfs"
)

// Run runs the suite. New returns a file system and an empty directory in it, for
// one test each.
func Run(t *testing.T, newFS func(t *testing.T) (fsys vfs.FS, dir string)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, fsys vfs.FS, dir string)
	}{
		{"what is written can be read", writeAndRead},
		{"create empties a file that exists", createEmpties},
		{"create needs the directory", createNeedsDir},
		{"a file that is not there does not open", openMissing},
		{"a file opened for reading cannot be written", openIsReadOnly},
		{"a write beyond the end leaves zeros between", sparse},
		{"truncate cuts, and grows with zeros", truncate},
		{"reading past the end says so", readPastEnd},
		{"seek moves the place of the next read", seek},
		{"rename replaces its target at once", rename},
		{"rename of what is not there is refused", renameMissing},
		{"an open file outlives its name", outlivesName},
		{"a directory that is not empty is not removed", removeNonEmpty},
		{"remove all removes everything and nothing is no error", removeAll},
		{"list is sorted and complete", list},
		{"stat tells size and kind", stat},
		{"make dir makes its parents and may be repeated", makeDir},
		{"a file is no directory", fileIsNoDir},
		{"sync and sync dir succeed", syncs},
		{"a closed file does nothing", closed},
		{"writers at different places do not disturb each other", concurrentWriters},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fsys, dir := newFS(t)
			c.test(t, fsys, dir)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func write(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	n, err := f.Write([]byte(content))
	must(t, err)
	if n != len(content) {
		t.Fatalf("wrote %d bytes, want %d", n, len(content))
	}
	must(t, f.Close())
}

func wantContent(t *testing.T, fsys vfs.FS, name, want string) {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	got, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())
	if string(got) != want {
		t.Fatalf("%s holds %q, want %q", name, got, want)
	}
}

func writeAndRead(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "hello ")
	f, err := fsys.OpenReadWrite(name)
	must(t, err)
	_, err = f.WriteAt([]byte("world"), 6)
	must(t, err)
	must(t, f.Close())
	wantContent(t, fsys, name, "hello world")
}

func createEmpties(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "something long")
	write(t, fsys, name, "short")
	wantContent(t, fsys, name, "short")
}

func createNeedsDir(t *testing.T, fsys vfs.FS, dir string) {
	_, err := fsys.Create(path.Join(dir, "no", "a"))
	wantErr(t, err, fs.ErrNotExist)
}

func openMissing(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	_, err := fsys.Open(name)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.OpenReadWrite(name)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Stat(name)
	wantErr(t, err, fs.ErrNotExist)
	wantErr(t, fsys.Remove(name), fs.ErrNotExist)
	_, err = fsys.List(name)
	wantErr(t, err, fs.ErrNotExist)
	wantErr(t, fsys.SyncDir(name), fs.ErrNotExist)
}

func openIsReadOnly(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "x")
	f, err := fsys.Open(name)
	must(t, err)
	if _, err := f.WriteAt([]byte("y"), 0); err == nil {
		t.Fatal("a write to a file opened for reading succeeded")
	}
	must(t, f.Close())
	wantContent(t, fsys, name, "x")
}

func sparse(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 5)
	must(t, err)
	must(t, f.Close())
	wantContent(t, fsys, name, "\x00\x00\x00\x00\x00x")
}

func truncate(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "abcdef")
	f, err := fsys.OpenReadWrite(name)
	must(t, err)
	must(t, f.Truncate(2))
	must(t, f.Truncate(4))
	must(t, f.Close())
	wantContent(t, fsys, name, "ab\x00\x00")
}

func readPastEnd(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "abc")
	f, err := fsys.Open(name)
	must(t, err)
	b := make([]byte, 4)
	n, err := f.ReadAt(b, 1)
	if n != 2 || err != io.EOF { //nolint:errorlint // io.ReaderAt's contract
		t.Fatalf("ReadAt got %d bytes and %v, want 2 and EOF", n, err)
	}
	if n, err := f.ReadAt(b, 3); n != 0 || err != io.EOF { //nolint:errorlint // the same
		t.Fatalf("ReadAt at the end got %d bytes and %v, want 0 and EOF", n, err)
	}
	if _, err := f.ReadAt(b, -1); err == nil {
		t.Fatal("ReadAt before the beginning succeeded")
	}
	must(t, f.Close())
}

func seek(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "abcdef")
	f, err := fsys.Open(name)
	must(t, err)
	for _, c := range []struct {
		offset int64
		whence int
		at     int64
		reads  string
	}{{2, io.SeekStart, 2, "c"}, {1, io.SeekCurrent, 4, "e"}, {-1, io.SeekEnd, 5, "f"}} {
		at, err := f.Seek(c.offset, c.whence)
		must(t, err)
		b := make([]byte, 1)
		_, err = io.ReadFull(f, b)
		must(t, err)
		if at != c.at || string(b) != c.reads {
			t.Fatalf("seek %d from %d is at %d and reads %q, want %d and %q", c.offset, c.whence, at, b, c.at, c.reads)
		}
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Fatal("a seek before the beginning succeeded")
	}
	must(t, f.Close())
}

func rename(t *testing.T, fsys vfs.FS, dir string) {
	a, b := path.Join(dir, "a"), path.Join(dir, "b")
	write(t, fsys, a, "new")
	write(t, fsys, b, "old")
	must(t, fsys.Rename(a, b))
	wantContent(t, fsys, b, "new")
	_, err := fsys.Stat(a)
	wantErr(t, err, fs.ErrNotExist)
}

func renameMissing(t *testing.T, fsys vfs.FS, dir string) {
	wantErr(t, fsys.Rename(path.Join(dir, "a"), path.Join(dir, "b")), fs.ErrNotExist)
	write(t, fsys, path.Join(dir, "a"), "x")
	wantErr(t, fsys.Rename(path.Join(dir, "a"), path.Join(dir, "no", "b")), fs.ErrNotExist)
	wantContent(t, fsys, path.Join(dir, "a"), "x")
}

func outlivesName(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	f, err := fsys.Create(name)
	must(t, err)
	must(t, fsys.Remove(name))
	write(t, fsys, name, "another")
	_, err = f.WriteAt([]byte("mine"), 0)
	must(t, err)
	b := make([]byte, 4)
	_, err = f.ReadAt(b, 0)
	must(t, err)
	if string(b) != "mine" {
		t.Fatalf("the nameless file holds %q, want %q", b, "mine")
	}
	must(t, f.Close())
	wantContent(t, fsys, name, "another")
}

func removeNonEmpty(t *testing.T, fsys vfs.FS, dir string) {
	sub := path.Join(dir, "sub")
	must(t, fsys.MkdirAll(sub, 0o700))
	write(t, fsys, path.Join(sub, "a"), "x")
	if err := fsys.Remove(sub); err == nil {
		t.Fatal("a directory with a file in it was removed")
	}
	must(t, fsys.Remove(path.Join(sub, "a")))
	must(t, fsys.Remove(sub))
}

func removeAll(t *testing.T, fsys vfs.FS, dir string) {
	sub := path.Join(dir, "sub")
	must(t, fsys.MkdirAll(path.Join(sub, "deeper"), 0o700))
	write(t, fsys, path.Join(sub, "deeper", "a"), "x")
	must(t, fsys.RemoveAll(sub))
	_, err := fsys.Stat(sub)
	wantErr(t, err, fs.ErrNotExist)
	must(t, fsys.RemoveAll(sub))
	must(t, fsys.RemoveAll(path.Join(sub, "deeper")))
}

func list(t *testing.T, fsys vfs.FS, dir string) {
	names, err := fsys.List(dir)
	must(t, err)
	if len(names) != 0 {
		t.Fatalf("an empty directory lists %q", names)
	}
	for _, name := range []string{"b", "c", "a"} {
		write(t, fsys, path.Join(dir, name), name)
	}
	must(t, fsys.MkdirAll(path.Join(dir, "d"), 0o700))
	names, err = fsys.List(dir)
	must(t, err)
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(names, want) {
		t.Fatalf("list got %q, want %q", names, want)
	}
}

func stat(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "abc")
	info, err := fsys.Stat(name)
	must(t, err)
	if info.Name() != "a" || info.Size() != 3 || info.IsDir() || info.Mode().Perm() != 0o600 {
		t.Fatalf("stat got %s of %d bytes, mode %s", info.Name(), info.Size(), info.Mode())
	}
	info, err = fsys.Stat(dir)
	must(t, err)
	if !info.IsDir() {
		t.Fatalf("stat says that %s is no directory", dir)
	}
	f, err := fsys.OpenReadWrite(name)
	must(t, err)
	must(t, f.Truncate(7))
	info, err = f.Stat()
	must(t, err)
	if info.Size() != 7 {
		t.Fatalf("the open file has %d bytes, want 7", info.Size())
	}
	must(t, f.Close())
}

func makeDir(t *testing.T, fsys vfs.FS, dir string) {
	deep := path.Join(dir, "x", "y", "z")
	must(t, vfs.MakeDir(fsys, deep))
	must(t, vfs.MakeDir(fsys, deep))
	must(t, fsys.MkdirAll(deep, 0o700))
	write(t, fsys, path.Join(deep, "a"), "x")
}

func fileIsNoDir(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	write(t, fsys, name, "x")
	if err := fsys.MkdirAll(path.Join(name, "b"), 0o700); err == nil {
		t.Fatal("made a directory in a file")
	}
	if _, err := fsys.Create(path.Join(name, "b")); err == nil {
		t.Fatal("made a file in a file")
	}
	if _, err := fsys.Create(dir); err == nil {
		t.Fatal("created a file over a directory")
	}
}

func syncs(t *testing.T, fsys vfs.FS, dir string) {
	f, err := fsys.Create(path.Join(dir, "a"))
	must(t, err)
	_, err = f.Write([]byte("x"))
	must(t, err)
	must(t, f.Sync())
	must(t, fsys.SyncDir(dir))
	must(t, f.Close())
}

func closed(t *testing.T, fsys vfs.FS, dir string) {
	f, err := fsys.Create(path.Join(dir, "a"))
	must(t, err)
	must(t, f.Close())
	_, err = f.Write([]byte("x"))
	wantErr(t, err, fs.ErrClosed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	wantErr(t, err, fs.ErrClosed)
	wantErr(t, f.Sync(), fs.ErrClosed)
	wantErr(t, f.Truncate(0), fs.ErrClosed)
	wantErr(t, f.Close(), fs.ErrClosed)
}

func concurrentWriters(t *testing.T, fsys vfs.FS, dir string) {
	name := path.Join(dir, "a")
	f, err := fsys.Create(name)
	must(t, err)
	const writers, size = 8, 1000
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for at := range size {
				if _, err := f.WriteAt([]byte{byte('a' + i)}, int64(i*size+at)); err != nil {
					t.Error(err)
				}
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, f.Close())
	var want bytes.Buffer
	for i := range writers {
		want.Write(bytes.Repeat([]byte{byte('a' + i)}, size))
	}
	wantContent(t, fsys, name, want.String())
}
