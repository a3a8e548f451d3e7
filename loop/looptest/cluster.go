package looptest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// TB is what a Cluster needs of a test, rapid's and testing's alike.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Cluster is a store, a runner over it, and a clock.
type Cluster struct {
	Store  *store.Store
	Runner *loop.Runner

	now  time.Time
	next time.Time // wake
	ids  int
}

// New makes an empty cluster with these loops, in this order.
func New(loops ...loop.Any) *Cluster {
	c := &Cluster{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	c.Store = store.NewLocal(store.Config{Now: c.Now, Freeze: true})
	c.Runner = loop.NewRunner(loop.Config{
		Store: c.Store,
		Loops: loops,
		NewID: func() string { c.ids++; return "t" + strconv.Itoa(c.ids) },
		Rand:  rand.New(rand.NewPCG(1, 1)),
		Now:   c.Now,
		Check: WriteRules,
	})
	return c
}

// Now is the cluster's clock.
func (c *Cluster) Now() time.Time { return c.now }

// Wait moves the clock. It plans nothing.
func (c *Cluster) Wait(d time.Duration) { c.now = c.now.Add(d) }

// Settle steps until nothing is left to plan now, and returns the time at which
// there will be, zero if never.
func (c *Cluster) Settle(tb TB) time.Time {
	tb.Helper()
	for range 10_000 {
		next, busy, err := c.Runner.Step(c.now)
		if err != nil {
			tb.Fatalf("step: %v", err)
		}
		if !busy && (next.IsZero() || next.After(c.now)) {
			c.next = next
			return next
		}
	}
	tb.Fatalf("the loops do not settle")
	return time.Time{}
}

// Do runs a transaction.
func (c *Cluster) Do(tb TB, f func(tx *store.Tx) error) {
	tb.Helper()
	if _, err := c.Store.Propose(f); err != nil {
		tb.Fatalf("%v", err)
	}
}

// Report lets the agent of a task report a state.
func (c *Cluster) Report(tb TB, id string, state api.TaskState) {
	tb.Helper()
	c.Do(tb, func(tx *store.Tx) error {
		t, ok := tx.Tasks.Get(id)
		if !ok {
			return fmt.Errorf("there is no task %s", id)
		}
		t = model.Shallow(t)
		t.Status = &api.TaskStatus{State: state, Timestamp: timestamppb.New(c.now), AppliedAt: timestamppb.New(c.now)}
		return tx.Update(t)
	})
}

// Tasks returns all tasks by service, slot and age.
func (c *Cluster) Tasks() []*api.Task {
	s := c.Store.Read()
	tasks := slices.Collect(s.Tasks.All())
	slices.SortFunc(tasks, func(a, b *api.Task) int {
		return cmp.Or(strings.Compare(a.GetServiceId(), b.GetServiceId()), cmp.Compare(a.GetSlot(), b.GetSlot()),
			a.GetMeta().GetCreatedAt().AsTime().Compare(b.GetMeta().GetCreatedAt().AsTime()),
			cmp.Compare(len(a.GetId()), len(b.GetId())), strings.Compare(a.GetId(), b.GetId()))
	})
	return tasks
}
