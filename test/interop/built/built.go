package built

import (
	"os"
	"path/filepath"
	"testing"
)

// Root returns the root of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "api", "types.proto")); err == nil {
			return dir
		}
	}
	t.Fatal("no directory above this one holds api/types.proto")
	return ""
}

// Command returns the path of one of our commands: "swarmd", "swarmctl",
// "recode". They are looked for in $SKEP_BIN, else in bin/ of the repository.
func Command(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("SKEP_BIN")
	if dir == "" {
		dir = filepath.Join(Root(t), "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make interop` at the root, which builds it first", err)
	}
	return path
}
