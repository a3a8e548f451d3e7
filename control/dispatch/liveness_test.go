package dispatch_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"skep/control/dispatch"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const period = 5 * time.Second

func TestANodeThatBeatsIsNeverExpired(t *testing.T) {
	t.Parallel()
	var l dispatch.Liveness
	now := start
	for range 1000 {
		l.Beat("a", now, 3*period)
		now = now.Add(period)
		for next := l.Next(); !next.After(now); next = l.Next() {
			if got := l.Step(next); len(got) != 0 {
				t.Fatalf("at %v: expired %v", now.Sub(start), got)
			}
		}
	}
}

func TestASilentNodeIsExpiredOnceAndOnTime(t *testing.T) {
	t.Parallel()
	var l dispatch.Liveness
	l.Beat("a", start, 3*period)
	for range 20 {
		next := l.Next()
		if next.IsZero() {
			t.Fatal("nothing is due though a node is watched")
		}
		got := l.Step(next)
		late := next.Sub(start) - 3*period
		switch {
		case len(got) == 0 && late >= 200*time.Millisecond:
			t.Fatalf("not expired %v after its deadline", late)
		case len(got) == 1 && late < 0:
			t.Fatalf("expired %v before its deadline", -late)
		case len(got) == 1:
			if l.Len() != 0 || !l.Next().IsZero() {
				t.Fatalf("still watched: %d, next step at %v", l.Len(), l.Next())
			}
			return
		}
	}
	t.Fatal("never expired")
}

func TestAPausedProcessExpiresNobodyForItsOwnPause(t *testing.T) {
	t.Parallel()
	var l dispatch.Liveness
	l.Beat("a", start, 3*period)
	woken := start.Add(time.Hour)
	if got := l.Step(woken); len(got) != 0 {
		t.Fatalf("expired %v right after a pause", got)
	}
	// It has as long as it had left when the pause began.
	expired := 0
	for next := l.Next(); !next.IsZero(); next = l.Next() {
		if expired += len(l.Step(next)); next.After(woken.Add(4 * period)) {
			break
		}
	}
	if expired != 1 {
		t.Fatalf("expired %d nodes within the grace after the pause, want 1", expired)
	}
}

// TestLivenessAgreesWithAListOfDeadlines holds the wheel against the obvious
// implementation: a node expires at the first step after its deadline, at most
// two slots late, never before.
func TestLivenessAgreesWithAListOfDeadlines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l dispatch.Liveness
		now := start
		deadlines := map[string]time.Time{}
		step := func(at time.Time) {
			now = at
			expired := l.Step(now)
			for _, node := range expired {
				if deadlines[node].After(now) || deadlines[node].IsZero() {
					t.Fatalf("%s expired at %v, its deadline is %v", node, now, deadlines[node])
				}
				delete(deadlines, node)
			}
			for node, deadline := range deadlines {
				if now.Sub(deadline) > 200*time.Millisecond {
					t.Fatalf("%s is not expired at %v, its deadline was %v", node, now, deadline)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"beat": func(t *rapid.T) {
				node := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "node"))
				grace := time.Duration(rapid.IntRange(0, 120_000).Draw(t, "grace")) * time.Millisecond
				l.Beat(node, now, grace)
				deadlines[node] = now.Add(grace)
			},
			"forget": func(t *rapid.T) {
				node := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "node"))
				l.Forget(node)
				delete(deadlines, node)
			},
			"time passes": func(t *rapid.T) {
				until := now.Add(time.Duration(rapid.IntRange(0, 60_000).Draw(t, "ms")) * time.Millisecond)
				for next := l.Next(); !next.IsZero() && !next.After(until); next = l.Next() {
					if next.Before(now) {
						next = now
					}
					step(next)
				}
				now = until
			},
			"": func(t *rapid.T) {
				if l.Len() != len(deadlines) {
					t.Fatalf("%d nodes are watched, want %d", l.Len(), len(deadlines))
				}
				if len(deadlines) == 0 {
					return
				}
				first := slices.MinFunc(slices.Collect(maps.Values(deadlines)), time.Time.Compare)
				if next := l.Next(); next.IsZero() || (next.Sub(first) > 200*time.Millisecond && next.Sub(now) > 200*time.Millisecond) {
					t.Fatalf("next step at %v, the first deadline is %v", next, first)
				}
			},
		})
	})
}

func BenchmarkLivenessBeat(b *testing.B) {
	for _, nodes := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			var l dispatch.Liveness
			ids := make([]string, nodes)
			for i := range ids {
				ids[i] = fmt.Sprintf("%025d", i)
				l.Beat(ids[i], start, 3*period)
			}
			b.ReportAllocs()
			i, now := 0, start
			for b.Loop() {
				// As often as it would be: every node once a period, a step when due.
				now = now.Add(period / time.Duration(nodes))
				l.Beat(ids[i%nodes], now, 3*period)
				if next := l.Next(); !next.After(now) {
					l.Step(now)
				}
				i++
			}
		})
	}
}
