package raft_test

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/model"
	"skep/raft"
	"skep/vfs"
)

func TestAnOnlyMemberLeadsAtOnceAndKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		began := time.Now()
		r := lead(t, config(m))
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %s until it led, want no tick to pass", took)
		}
		r.apply(t, "a", "b", "c")
		first := r.node.Status()
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		r = lead(t, config(m))
		if got, want := r.contents(), []string{"a", "b", "c"}; !slices.Equal(got, want) {
			t.Errorf("after a restart it has %q, want %q", got, want)
		}
		s := r.node.Status()
		if s.ID != first.ID || s.Leader != s.ID || s.Term <= first.Term || s.Applied != s.Commit || s.Commit != s.LastIndex {
			t.Errorf("the status is %+v, before it was %+v", s, first)
		}
		if len(s.Members) != 1 || s.Members[0].GetNodeId() != "node" || s.Members[0].GetAddr() != "10.0.0.1:2377" || s.Members[0].GetRaftId() != s.ID {
			t.Errorf("the members are %v", s.Members)
		}
	})
}

func TestItLeadsWhenItHasAppliedAllThatWasInTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		r := lead(t, config(m))
		r.apply(t, numbered(1, 500)...)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r = start(t, config(m))
		led := 0
		r.until(t.Context(), "it leads", func() bool { led = len(r.state); return r.term != 0 })
		if led != 500 {
			t.Errorf("it led with %d entries applied, want 500", led)
		}
	})
}

func TestWhatIsProposedDuringOneSyncSharesTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		r := lead(t, config(m))
		slow := m.Inject(vfs.Rule{Op: vfs.OpSync, Delay: time.Second})
		began := time.Now()
		first := r.propose("first")
		synctest.Wait()
		var rest []<-chan outcome
		for _, data := range numbered(1, 100) {
			rest = append(rest, r.propose(data)...)
		}
		for _, o := range append(first, rest...) {
			if got := <-o; got != applied {
				t.Errorf("a proposal was %s", got)
			}
		}
		if took := time.Since(began); took != 2*time.Second || slow.Hits() != 2 {
			t.Errorf("101 entries took %s and %d syncs, want 2s and 2", took, slow.Hits())
		}
		if got := r.contents(); !slices.Equal(got[1:], numbered(1, 100)) {
			t.Errorf("they were applied in the order %q", got)
		}
	})
}

func TestASlowDiskDoesNotHoldUpTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		r := lead(t, config(m))
		m.Inject(vfs.Rule{Op: vfs.OpSync, Delay: 10 * time.Second, Count: 1})
		r.apply(t, "a")
		if want := 1; len(r.story) != want {
			t.Errorf("during a sync of ten seconds it did %q, want to go on leading", r.story)
		}
	})
}

func TestProposalsAreRefusedAfterItStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		r := lead(t, config(m))
		m.Inject(vfs.Rule{Op: vfs.OpSync, Delay: time.Second})
		inFlight := r.propose("in flight")[0]
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if got := <-inFlight; got != unknown {
			t.Errorf("what was being written is %s, want %s", got, unknown)
		}
		if got := <-r.propose("late")[0]; got != refused {
			t.Errorf("a late proposal is %s, want %s", got, refused)
		}
		if want := "follow"; r.story[len(r.story)-1] != want {
			t.Errorf("the story is %q, want it to end with %q", r.story, want)
		}
	})
}

func TestARunThatEndsBeforeItLeadsTellsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		r := start(t, config(m))
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if err := r.node.Run(t.Context()); err == nil {
			t.Error("a second Run went on")
		}
	})
}

func TestAReadOfTheLeaderHasWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		r := start(t, config(m))
		// It waits for a leader.
		if _, err := r.node.ReadIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.lead(t)
		for _, data := range numbered(1, 20) {
			r.apply(t, data)
			began := time.Now()
			index, err := r.node.ReadIndex(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if time.Since(began) != 0 {
				t.Error("a read of the only voter waited")
			}
			r.mu.Lock()
			if index < r.index {
				t.Errorf("a read may be as old as %d, though %d is acknowledged", index, r.index)
			}
			r.mu.Unlock()
		}
	})
}

func TestAReadWithoutALeaderIsUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		m.Inject(vfs.Rule{Op: vfs.OpSync, Skip: 1, Delay: time.Hour}) // its vote
		r := start(t, config(m))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.node.ReadIndex(ctx); model.KindOf(err) != model.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want it to be unavailable", err)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.node.ReadIndex(t.Context()); model.KindOf(err) != model.Unavailable {
			t.Errorf("got %v, want it to be unavailable", err)
		}
	})
}

func TestAfterAFailedWriteNothingIsAcknowledged(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]vfs.Rule{
		"sync fails once":  {Op: vfs.OpSync, Count: 1, Err: syscall.EIO},
		"write fails once": {Op: vfs.OpWrite, Count: 1, Err: syscall.EIO},
		"the disk is full": {Op: vfs.OpWrite, Err: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := vfs.NewMem()
				r := lead(t, config(m))
				r.apply(t, "a")
				fault := m.Inject(rule)
				outcomes := append(r.propose("b"), r.propose("c")...)
				err := r.wait()
				if !errors.Is(err, rule.Err) {
					t.Fatalf("Run returned %v, want %v", err, rule.Err)
				}
				for _, part := range []string{"raft/log/0000000000000001.log", "check the disk"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
				for _, o := range outcomes {
					if got := <-o; got == applied {
						t.Error("what may not be on disk was acknowledged")
					}
				}
				fault.Remove()
				r = lead(t, config(m))
				r.apply(t, "d")
				if got := r.contents(); got[0] != "a" || got[len(got)-1] != "d" {
					t.Errorf("after the restart it has %q", got)
				}
			})
		})
	}
}

func TestAnEntryThatCannotBeAppliedIsFatal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lead(t, config(vfs.NewMem()))
		bad := errors.New("no such thing")
		r.mu.Lock()
		r.failApply = bad
		r.mu.Unlock()
		o := r.propose("a")[0]
		if err := r.wait(); !errors.Is(err, bad) || !strings.Contains(err.Error(), "apply entries") {
			t.Errorf("Run returned %v, want %v", err, bad)
		}
		if got := <-o; got != unknown {
			t.Errorf("the proposal is %s, want %s", got, unknown)
		}
	})
}

func TestADirectoryThatIsNotTheNodesIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		cfg.ID = 77
		r := lead(t, cfg)
		if got := r.node.Status().ID; got != 77 {
			t.Errorf("the raft id is %d, want 77", got)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			change func(*raft.Config)
			says   string
		}{
			"another node":    {func(c *raft.Config) { c.NodeID = "other" }, "belongs to node"},
			"another raft id": {func(c *raft.Config) { c.ID = 78 }, "belongs to raft member"},
			"another key":     {func(c *raft.Config) { c.Key[0]++ }, "another key"},
			"no key":          {func(c *raft.Config) { c.Key = [32]byte{} }, "Key is missing"},
			"no directory":    {func(c *raft.Config) { c.Dir = "" }, "Dir is missing"},
			"no file system":  {func(c *raft.Config) { c.FS = nil }, "FS is missing"},
		} {
			other := cfg
			c.change(&other)
			other.StateMachine = newMachine(t)
			if _, err := raft.New(other); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: got %v, want %q", name, err, c.says)
			}
		}
		cfg.StateMachine = nil
		if _, err := raft.New(cfg); err == nil || !strings.Contains(err.Error(), "StateMachine is missing") {
			t.Errorf("no state machine: got %v", err)
		}
	})
}

func TestALostLogIsNotReplacedByAnEmptyOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		cfg := config(m)
		cfg.SnapshotEntries = 10
		r := lead(t, cfg)
		r.apply(t, numbered(1, 20)...)
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if err := m.RemoveAll("raft/log"); err != nil {
			t.Fatal(err)
		}
		cfg.StateMachine = newMachine(t)
		if _, err := raft.New(cfg); err == nil || !strings.Contains(err.Error(), "is gone") {
			t.Errorf("got %v, want an error", err)
		}
	})
}

func TestWhatItMeasuresIsRegisteredWhileItRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		cfg := config(vfs.NewMem())
		cfg.Metrics = registry
		r := lead(t, cfg)
		r.apply(t, "a", "b")
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]uint64{}
		for _, f := range families {
			counts[f.GetName()] = f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
		if _, ok := counts["skep_raft_log_bytes"]; !ok {
			t.Errorf("the size of the log is not among %v", counts)
		}
		if counts["swarm_raft_transaction_latency_seconds"] != 2 || counts["skep_raft_flush_seconds"] < 2 {
			t.Errorf("got the counts %v", counts)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if families, err := registry.Gather(); err != nil || len(families) != 0 {
			t.Errorf("after it stopped %d metrics are left (%v)", len(families), err)
		}
	})
}

func TestTheLibraryLogsAtDebugOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for level, want := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: false} {
			var text strings.Builder
			cfg := config(vfs.NewMem())
			cfg.Log = slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: level}))
			r := lead(t, cfg)
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(text.String(), "raft library"); got != want {
				t.Errorf("at level %s it says: %s", level, text.String())
			}
		}
	})
}

// files returns the names in a directory of the node.
func files(t testing.TB, m *vfs.Mem, dir string) []string {
	t.Helper()
	names, err := m.List(path.Join("raft", dir))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
