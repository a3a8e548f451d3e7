package snap_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"skep/raft/seal"
	"skep/raft/snap"
	"skep/vfs"
)

func TestSnapshotsAreReadWithAnyKeyOfTheRingAndWrittenWithTheCurrentOne(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	if err := vfs.MakeDir(m, "snapshots"); err != nil {
		t.Fatal(err)
	}
	d := snap.Dir{FS: m, Path: "snapshots", Keys: seal.NewRing(seal.Key{1})}
	write := func(index uint64) {
		t.Helper()
		if _, err := d.Write(snap.Meta{Index: index, Term: 1}, func(w io.Writer) error {
			_, err := w.Write([]byte("state"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	wantOld := func(want ...uint64) {
		t.Helper()
		if old, err := d.OldKeys(); err != nil || !slices.Equal(old, want) {
			t.Errorf("%v have old keys (%v), want %v", old, err, want)
		}
	}
	write(5)
	wantOld()
	d.Keys.Rotate(seal.Key{2})
	wantOld(5)
	write(9)
	wantOld(5)
	for _, index := range []uint64{5, 9} {
		if _, err := d.Verify(index); err != nil {
			t.Error(err)
		}
	}
	d.Keys.Forget()
	wantOld(5)
	if _, err := d.Verify(5); !errors.Is(err, seal.ErrKey) {
		t.Errorf("without its key: %v, want %v", err, seal.ErrKey)
	}
	if err := d.Tidy(9); err != nil {
		t.Fatal(err)
	}
	wantOld()
	alone := snap.Dir{FS: m, Path: "snapshots", Key: seal.Key{2}}
	if _, err := alone.Verify(9); err != nil {
		t.Error(err)
	}
}
