package chaos

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if err := Check(); err != nil {
		fmt.Fprintln(os.Stderr, "make chaos:", err)
		os.Exit(1)
	}
	m.Run()
}

// newSwarm founds a swarm that ends with the test, whatever happens. Its context ends
// with the first Ctrl-C.
func newSwarm(t *testing.T, managers, workers int) (context.Context, *Swarm) {
	t.Helper()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	bin, err := filepath.Abs(cmp.Or(os.Getenv("SKEP_BIN"), "../../bin"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "swarmd")); err != nil {
		t.Fatalf("%v: run `make chaos` at the root, which builds it first", err)
	}
	s, err := NewSwarm(bin, managers, workers)
	t.Cleanup(func() {
		cancel()
		if s == nil {
			return
		}
		if t.Failed() {
			t.Logf("the logs of the nodes are in %s, and end so:\n%s", s.Dir, s.LastLines(15))
		}
		if err := s.End(t.Failed()); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Found(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, s
}

// rounds is how often each fault is repeated.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("CHAOS_ROUNDS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CHAOS_ROUNDS=%q: give a number of rounds, at least 1", text)
	}
	return n
}
