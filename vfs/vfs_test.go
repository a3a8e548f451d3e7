package vfs_test

import (
	"testing"

	"go.uber.org/goleak"

	"skep/vfs"
	"skep/vfs/vfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOS(t *testing.T) {
	t.Parallel()
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return vfs.OS(), t.TempDir() })
}

func TestMem(t *testing.T) {
	t.Parallel()
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) {
		m := vfs.NewMem()
		if err := m.MkdirAll("dir", 0o700); err != nil {
			t.Fatal(err)
		}
		return m, "dir"
	})
}
