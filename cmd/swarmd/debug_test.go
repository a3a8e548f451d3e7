package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"skep/ca"
	"skep/vfs"
)

// lockkey DIR BYTE locks a node's key file with an unlock key of 32 such bytes.
func lockKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || len(args[1]) != 1 {
		ts.Fatalf("usage: lockkey DIR BYTE")
	}
	files := ca.NewFiles(vfs.OS(), ts.MkAbs(filepath.Join(args[0], "certificates")))
	ts.Check(files.SetKEK(1<<40, bytes.Repeat([]byte(args[1]), 32)))
}

func TestAnUnlockKeyIsReadAndNeverShown(t *testing.T) {
	t.Parallel()
	const good = "SWMKEY-1-QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE" // 32 times A
	key, err := givenUnlockKey(good, "")
	if err != nil || string(key.Bytes()) != strings.Repeat("A", 32) {
		t.Errorf("got %q, %v", key.Bytes(), err)
	}
	for _, text := range []string{" ", good[:40], "SWMTKN-1-" + good[9:], good + "A", good[9:]} {
		if _, err := givenUnlockKey(text, ""); err == nil || text != " " && strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "--unlock-key: invalid unlock key") {
			t.Errorf("%q: %v", text, err)
		}
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(good+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := givenUnlockKey(good, file); err == nil {
		t.Error("two keys are one too many")
	}
	if kek, err := unlockKey(file, nil); err != nil || len(kek) != 32 {
		t.Errorf("from a file: %q, %v", kek, err)
	}
}
