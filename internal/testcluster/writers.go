package testcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"skep/api"
	"skep/internal/linear"
)

// Writers are clients that read and update configs at the sockets of some machines,
// each a few times a second, and record what they are told.
type Writers struct {
	c       *Cluster
	History *linear.History
	stop    context.CancelFunc
	group   sync.WaitGroup

	mu       sync.Mutex
	acked    time.Time
	changed  chan struct{}
	failures map[string]int
}

// WriteGap is the longest time for which no write is acknowledged while a majority of
// the managers runs and reaches each other.
const WriteGap = 3 * time.Second

// writeLimit is how long a writer waits for one answer.
const writeLimit = 5 * time.Second

// Writers starts n clients, shared out over the machines, that work on as many objects
// as there are clients, half.
func (c *Cluster) Writers(n int, machines ...string) *Writers {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &Writers{c: c, History: &linear.History{}, stop: stop, changed: make(chan struct{}), failures: make(map[string]int)}
	c.histories = append(c.histories, w)
	prefix := fmt.Sprintf("writers%d-", len(c.histories))
	for i := range n {
		at := c.Machine(machines[i%len(machines)])
		client := &linear.Client{
			ID: i, History: w.History, Keys: keys(prefix, max(1, n/2)), Rand: rand.New(rand.NewPCG(c.seed, uint64(1000+i))),
		}
		w.group.Go(func() {
			for ctx.Err() == nil {
				call, cancel := context.WithTimeout(ctx, writeLimit)
				wrote, err := client.Step(call, api.NewControlClient(at.client))
				cancel()
				w.note(wrote, err)
				// Shorter ones cost the tests a third more and found nothing.
				pause := time.Duration(50+client.Rand.IntN(250)) * time.Millisecond
				timer := time.NewTimer(pause)
				select {
				case <-timer.C:
				case <-ctx.Done():
					timer.Stop()
				}
			}
		})
	}
	return w
}

func keys(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func (w *Writers) note(wrote bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failures[err.Error()]++
	}
	if wrote {
		w.acked = time.Now()
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// Next waits for the next write that is acknowledged, up to limit, and returns how long
// that took.
func (w *Writers) Next(limit time.Duration) time.Duration {
	w.c.t.Helper()
	w.mu.Lock()
	changed := w.changed
	w.mu.Unlock()
	begun := time.Now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-changed:
		took := time.Since(begun)
		w.c.Logf("the next write is acknowledged after %v", took)
		return took
	case <-timer.C:
		w.c.t.Fatalf("no write was acknowledged within %v: %s; errors: %v", limit, w.c.states(), w.Failures())
		return 0
	}
}

// Acked returns how many writes were acknowledged so far.
func (w *Writers) Acked() int { return w.History.Writes() }

// Failures returns the errors that the writers got, each once.
func (w *Writers) Failures() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for text, n := range w.failures {
		out = append(out, fmt.Sprintf("%d× %s", n, text))
	}
	slices.Sort(out)
	return out
}

// Stop stops the writers and waits for them.
func (w *Writers) Stop() {
	w.stop()
	w.group.Wait()
}
