package wal_test

import (
	"errors"
	"path"
	"testing"

	"skep/raft/seal"
	"skep/raft/wal"
	"skep/vfs"
	"skep/vfs/vfstest"
)

// FuzzOpen opens a log whose last segment is anything at all. It must say what is wrong,
// or find entries that follow each other.
func FuzzOpen(f *testing.F) {
	whole := vfs.NewMem()
	fill(f, whole, 20)
	names := segments(f, whole)
	name := names[len(names)-1]
	good := vfstest.ReadFile(f, whole, name)
	f.Add(good)
	f.Add(good[:seal.HeaderSize+10])
	f.Add([]byte{})
	f.Add([]byte("SKEPRLOG"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := whole.Copy()
		vfstest.WriteFile(t, m, name, data)
		r, err := reopen(m, 0)
		if err != nil {
			var damage *seal.DamageError
			if !errors.As(err, &damage) {
				t.Fatalf("got %v, want a damage error", err)
			}
			return
		}
		wantEntries(t, r, 1, r.LastIndex)
	})
}

// FuzzContent puts anything at all into records that are sealed as they should be, as only
// a faulty release could.
func FuzzContent(f *testing.F) {
	f.Add([]byte{3, 2, 1, 0, 1, 'a'}, uint64(5))
	f.Add([]byte{2, 1, 1, 1, 3, 2, 1, 0, 0}, uint64(5))
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0}, uint64(5))
	f.Add([]byte{3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1, 0, 0}, uint64(5))
	f.Fuzz(func(t *testing.T, content []byte, tag uint64) {
		m := vfs.NewMem()
		if err := vfs.MakeDir(m, "log"); err != nil {
			t.Fatal(err)
		}
		header, box, err := seal.New(seal.Kind{Magic: "SKEPRLOG", Format: 1}, seal.Key{1})
		if err != nil {
			t.Fatal(err)
		}
		origin := []byte{1, 1, 0, 0, 0, 0, 0, 0, 0, id, byte(len(owner))}
		data := box.Seal(header, 0, 3, append(origin, owner...))
		data = box.Seal(data, 1, tag, content)
		vfstest.WriteFile(t, m, path.Join("log", "0000000000000001.log"), data)
		l, r, err := wal.Open(config(m), 0)
		if err != nil {
			return
		}
		wantEntries(t, r, 1, r.LastIndex)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
