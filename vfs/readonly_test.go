package vfs_test

import (
	"errors"
	"syscall"
	"testing"

	"skep/vfs"
	"skep/vfs/vfstest"
)

func TestAReadOnlyFileSystemRefusesWhatChangesIt(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	vfstest.WriteFile(t, m, "a", []byte("content"))
	r := vfs.ReadOnly(m)
	_, created := r.Create("b")
	_, opened := r.OpenReadWrite("a")
	for name, err := range map[string]error{
		"Create": created, "OpenReadWrite": opened, "Remove": r.Remove("a"), "RemoveAll": r.RemoveAll("a"),
		"Rename": r.Rename("a", "b"), "MkdirAll": r.MkdirAll("d", 0o700), "SyncDir": r.SyncDir("."),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want %v", name, err, syscall.EROFS)
		}
	}
	if got := string(vfstest.ReadFile(t, r, "a")); got != "content" {
		t.Errorf("it reads %q", got)
	}
	if names, err := r.List("."); err != nil || len(names) != 1 {
		t.Errorf("it has %q, %v", names, err)
	}
}
