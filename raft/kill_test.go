package raft_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"skep/vfs"
)

// victimDir is the environment variable that makes this test binary a process which
// writes until it is killed.
const victimDir = "SKEP_RAFT_TEST_VICTIM_DIR"

// reporter is a testing.TB for a process that is no test.
type reporter struct{ testing.TB }

func (reporter) Helper()                           {}
func (reporter) Cleanup(func())                    {}
func (reporter) Context() context.Context          { return context.Background() }
func (reporter) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (reporter) Error(args ...any)                 { panic(fmt.Sprint(args...)) }
func (reporter) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (reporter) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }

// victim proposes with several writers and prints what was acknowledged.
func victim(dir string) {
	cfg := small(vfs.OS())
	cfg.Dir = dir
	t := reporter{}
	r := lead(t, cfg)
	var mu sync.Mutex
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				data := fmt.Sprintf("process %d writer %d entry %d", os.Getpid(), w, i)
				r.apply(t, data)
				mu.Lock()
				fmt.Println(data)
				mu.Unlock()
			}
		})
	}
	writers.Wait()
}

func TestAKilledProcessLosesNothingItAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acked []string
	for round := range 4 {
		acked = append(acked, killed(t, dir, 50+round*77)...)
	}
	cfg := small(vfs.OS())
	cfg.Dir = dir
	state := map[string]bool{}
	for _, data := range lead(t, cfg).contents() {
		if state[data] {
			t.Errorf("%q is there twice", data)
		}
		state[data] = true
	}
	for _, data := range acked {
		if !state[data] {
			t.Errorf("%q was acknowledged and is lost", data)
		}
	}
}

// killed runs a victim, kills it after so many acknowledgements and returns them.
func killed(t *testing.T, dir string, after int) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acked []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // killed; a line cut short does not count
		}
		acked = append(acked, strings.TrimSuffix(line, "\n"))
		if len(acked) == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acked) < after {
		t.Fatalf("the process ended by itself after %d acknowledgements (%v): %s", len(acked), err, stderr.String())
	}
	return acked
}
