package process_test

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
)

// BenchmarkLife is a task from its assignment to its removal; start-ms of it is
// what a user waits for, and parent-KB what a parent has of its own.
func BenchmarkLife(b *testing.B) {
	e := newMachine(b).open(b)
	var anonymous, started float64
	for b.Loop() {
		c, err := e.Controller(taskOf(newID(), running("run")), exectest.Dependencies{On: node})
		if err != nil {
			b.Fatal(err)
		}
		before := b.Elapsed()
		for _, verb := range []exec.Verb{exec.Prepare, exec.Start} {
			if out := exec.Do(b.Context(), c, verb); out.Err != nil {
				b.Fatal(out.Err)
			}
		}
		started += (b.Elapsed() - before).Seconds()
		ready(b, c)
		anonymous += memoryOf(b, parentOf(b, pidOf(b, c)))
		if err := c.Remove(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(started*1000/float64(b.N), "start-ms")
	b.ReportMetric(anonymous/float64(b.N), "parent-KB")
}

// memoryOf returns the memory in KB that a process shares with no file.
func memoryOf(b *testing.B, pid int) float64 {
	b.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var kilobytes float64
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if value, ok := strings.CutPrefix(scanner.Text(), "RssAnon:"); ok {
			if _, err := fmt.Sscan(value, &kilobytes); err != nil {
				b.Fatal(err)
			}
		}
	}
	return kilobytes
}
