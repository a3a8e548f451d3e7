package process_test

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
)

// withoutDescriptors runs f where this process may open so many files more. It
// is not for parallel tests.
func withoutDescriptors(t *testing.T, more int, f func()) {
	t.Helper()
	lowest, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	free := lowest.Fd()
	if err := lowest.Close(); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free) + uint64(more), Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// An agent that adopts while it is short of descriptors cannot see what runs;
// that is no reason to take it for dead, and sweep it away.
func TestATaskThatCannotBeLookedAtForATimeIsLeftAlone(t *testing.T) { //nolint:paralleltest // it limits the whole process
	m := newMachine(t)
	id := deadAgent(t, m, "run")
	c := control(t, m.open(t), taskOf(id, running("run")), exectest.Dependencies{})
	for more := range 3 {
		withoutDescriptors(t, more, func() {
			if err := c.Start(t.Context()); err != nil && !exec.IsTemporary(err) {
				t.Errorf("start with %d descriptors left: got %v, want a temporary error", more, err)
			}
		})
	}
	if err := c.Prepare(t.Context()); !errors.Is(err, exec.ErrTaskPrepared) {
		t.Errorf("prepare: got %v, want ErrTaskPrepared", err)
	}
	if pid := pidOf(t, c); !alive(pid) {
		t.Errorf("process %d is dead", pid)
	}
}
