package manager

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/raft"
	"skep/store"
)

// comparing is managers that apply the same log, and tell each other what they hold.
type comparing struct {
	members  []*replica
	compares []*divergence
	ended    []chan error
}

// newComparing begins n managers, with raft ids from 1 on; 1 leads.
func newComparing(ctx context.Context, n int) *comparing {
	c := &comparing{}
	ids := make([]uint64, n)
	for i := range n {
		ids[i] = uint64(i + 1)
		d := newDivergence(func() uint64 { return ids[i] }, func() ([]uint64, uint64) { return ids, 1 }, func(index uint64, hash []byte) {
			for j, other := range c.compares {
				if i != j {
					other.heard(ids[i], index, hash)
				}
			}
		}, slog.New(slog.DiscardHandler))
		c.compares = append(c.compares, d)
		c.members = append(c.members, &replica{store: store.New(store.Config{}), compare: d.reached})
		c.ended = append(c.ended, make(chan error, 1))
	}
	for i, d := range c.compares {
		go func() { c.ended[i] <- d.Run(ctx) }()
	}
	return c
}

// entry returns one that writes a config.
func entry(t *testing.T, name string) []byte {
	t.Helper()
	b, err := proto.Marshal(&api.InternalRaftRequest{Action: []*api.StoreAction{{
		Action: api.StoreActionKind_STORE_ACTION_CREATE,
		Target: &api.StoreAction_Config{Config: &api.Config{Id: name, Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: name}}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// apply has all apply entries from to to; the one at index canary comes out another one on
// the members of wrong.
func (c *comparing) apply(t *testing.T, from, to, canary uint64, wrong ...int) {
	t.Helper()
	for i, r := range c.members {
		for index := from; index <= to; index++ {
			data := entry(t, fmt.Sprint("c", index%300))
			for _, w := range wrong {
				if w == i && index == canary {
					data = entry(t, "canary")
				}
			}
			if index%7 != 0 { // some are for raft alone
				if err := r.Apply([]raft.Entry{{Index: index, Term: 1, Data: data}}); err != nil {
					t.Fatal(err)
				}
			}
			if index%5 == 0 || index == to {
				r.Applied(index, 1)
			}
		}
	}
	<-time.After(10 * digestRest) // of the bubble
	synctest.Wait()
}

// Fault 50 of the reliability promises.
func TestTheManagerWhoseStateDiffersStopsWithinOneInterval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		managers int
		wrong    []int // from 0 on; 0 leads
		stops    []int
		why      string
	}{
		"one of three":          {3, []int{2}, []int{2}, "2 of 3 managers agree"},
		"the leader of three":   {3, []int{0}, []int{0}, "2 of 3 managers agree"},
		"two of five":           {5, []int{1, 3}, []int{1, 3}, "3 of 5 managers agree"},
		"the follower of two":   {2, []int{1}, []int{1}, "no other manager to tell"},
		"the leader of two":     {2, []int{0}, []int{1}, "no other manager to tell"},
		"nobody":                {3, nil, nil, ""},
		"nobody of one manager": {1, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				g := newComparing(ctx, c.managers)
				g.apply(t, 1, 3*digestInterval, 2*digestInterval+10, c.wrong...)
				stopped := map[int]error{}
				for i, ended := range g.ended {
					select {
					case stopped[i] = <-ended:
					default:
					}
				}
				if len(stopped) != len(c.stops) {
					t.Errorf("%v stopped, want %v", stopped, c.stops)
				}
				for _, i := range c.stops {
					if err := stopped[i]; err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "let it join again") {
						t.Errorf("manager %d ended with %v, want %q and what to do", i, err, c.why)
					}
				}
			})
		})
	}
}

// What there is to hash after a start is hashed in slices, between which others have the processor.
func TestALargeStateIsHashedAtEaseAndOnlyOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const objects = 20 * digestSlice
		var mu sync.Mutex
		var all []uint64
		told := func() []uint64 {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		d := newDivergence(func() uint64 { return 1 }, func() ([]uint64, uint64) { return []uint64{1, 2}, 1 },
			func(index uint64, _ []byte) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, index)
			}, slog.New(slog.DiscardHandler))
		r := &replica{store: store.New(store.Config{}), compare: d.reached}
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		next := uint64(1)
		apply := func(n int) {
			t.Helper()
			for range n {
				if err := r.Apply([]raft.Entry{{Index: next, Term: 1, Data: entry(t, fmt.Sprint("c", next))}}); err != nil {
					t.Fatal(err)
				}
				next++
			}
			r.Applied(next-1, 1)
		}
		r.compare = nil // as the state was at the start
		apply(objects)
		r.compare = d.reached
		apply(digestInterval)
		synctest.Wait()
		if len(told()) > 0 {
			t.Error("all of it is hashed at once")
		}
		time.Sleep((objects/digestSlice + 2) * digestRest)
		synctest.Wait()
		if len(told()) != 1 {
			t.Fatalf("it said %v, want one digest", told())
		}
		apply(digestInterval)
		time.Sleep(2 * digestRest)
		synctest.Wait()
		if len(told()) != 2 {
			t.Errorf("it said %v: the second digest is one of everything again", told())
		}
		other := store.New(store.Config{})
		r.store = other
		r.placed = false
		apply(digestInterval)
		cancel() // in the middle of work
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestOfThreeManagersWithOneAwayTheFollowerThatDiffersWaitsForTheThirdFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newComparing(ctx, 3)
		away := g.members[2]
		g.members = g.members[:2]
		g.apply(t, 1, digestInterval, 10, 1)
		select {
		case err := <-g.ended[1]:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		g.members = []*replica{away}
		g.apply(t, 1, digestInterval, 10, 0) // the third is as the second
		select {
		case err := <-g.ended[0]:
			if err == nil {
				t.Error("the leader ended without an error")
			}
		default:
			t.Error("the leader goes on, which two others contradict")
		}
	})
}

func TestOfThreeManagersWithOneAwayForLongTheFollowerThatDiffersStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newComparing(ctx, 3)
		g.members = g.members[:2]
		g.apply(t, 1, digestInterval, 10, 1)
		if err := <-g.ended[1]; err == nil || !strings.Contains(err.Error(), "the leader's is") {
			t.Errorf("the follower ended with %v", err)
		}
	})
}

func TestNoIndexThatAMemberNamesEndsTheComparison(t *testing.T) {
	t.Parallel()
	for name, indexes := range map[string][]uint64{
		"the largest of all":         {math.MaxUint64},
		"the largest that is one":    {math.MaxUint64 - digestInterval + 1},
		"each one a bit further":     {5 * digestInterval, 16 * digestInterval, 31 * digestInterval, 46 * digestInterval, 200 * digestInterval},
		"none":                       {0},
		"one that is not compared":   {digestInterval + 1},
		"just what is not taken now": {digestWindow + digestInterval},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				g := newComparing(ctx, 3)
				for _, d := range g.compares {
					for _, index := range indexes {
						d.heard(3, index, []byte("x"))
					}
				}
				g.apply(t, 1, digestInterval, 10, 1)
				for _, index := range indexes {
					g.compares[0].heard(3, index, []byte("x"))
				}
				select {
				case err := <-g.ended[1]:
					if err == nil || !strings.Contains(err.Error(), "2 of 3 managers agree") {
						t.Errorf("the manager that differs ended with %v", err)
					}
				case <-time.After(time.Minute):
					t.Error("the manager that differs goes on")
				}
				d := g.compares[0]
				d.mu.Lock()
				defer d.mu.Unlock()
				if n := len(d.opinions[digestInterval].of); n != 3 || len(d.opinions) > 2*digestsKept+1 {
					t.Errorf("%d of 3 opinions are kept, of %d indexes", n, len(d.opinions))
				}
			})
		})
	}
}

func TestWhoCountsIsSaidWhenManagersDiffer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		members int
		says    string
	}{
		"of two the leader":  {2, "no most agree: the leader's counts, and who differs from it stops by itself; keep its state directory for a report, remove it"},
		"of three the other": {3, "than this one and most; they stop by themselves: remove them"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				g := newComparing(ctx, test.members)
				var log strings.Builder
				g.compares[0].log = slog.New(slog.NewTextHandler(&log, nil))
				g.apply(t, 1, digestInterval, 10, 1)
				if err := <-g.ended[1]; err == nil {
					t.Error("the manager that differs ended without an error")
				}
				synctest.Wait()
				if !strings.Contains(log.String(), test.says) || strings.Count(log.String(), "\n") != 1 {
					t.Errorf("the leader says %q, want once %q", log.String(), test.says)
				}
			})
		})
	}
}

// The index of a restored state is not known until something is applied: nothing is said of it.
func TestARestoredStateIsComparedFromTheNextIntervalOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newComparing(ctx, 3)
		all := g.members
		g.members = all[:2]
		g.apply(t, 1, digestInterval+20, 0)
		var b bytes.Buffer
		if _, err := all[0].store.Read().WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if err := all[2].Restore(&b); err != nil {
			t.Fatal(err)
		}
		all[2].Applied(digestInterval+20, 1)
		g.members = all
		g.apply(t, digestInterval+21, 4*digestInterval, 0)
		for i, ended := range g.ended {
			select {
			case err := <-ended:
				t.Errorf("manager %d ended with %v", i, err)
			default:
			}
		}
		if n := len(g.compares[0].opinions[3*digestInterval].of); n != 3 {
			t.Errorf("%d managers were compared, want 3", n)
		}
	})
}

// A manager that is alone has nobody to compare with, and hashes nothing until another one joins.
func TestAManagerThatIsAloneHashesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		members, told := []uint64{1}, 0
		d := newDivergence(func() uint64 { return 1 },
			func() ([]uint64, uint64) {
				mu.Lock()
				defer mu.Unlock()
				return members, 1
			},
			func(uint64, []byte) {
				mu.Lock()
				defer mu.Unlock()
				told++
			}, slog.New(slog.DiscardHandler))
		r := &replica{store: store.New(store.Config{}), compare: d.reached}
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		reach := func(index uint64, want int) {
			t.Helper()
			if err := r.Apply([]raft.Entry{{Index: index, Term: 1, Data: entry(t, fmt.Sprint("c", index))}}); err != nil {
				t.Fatal(err)
			}
			r.Applied(index, 1)
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			if told != want {
				t.Errorf("with %d members it announced %d digests, want %d", len(members), told, want)
			}
		}
		reach(digestInterval, 0)
		mu.Lock()
		members = []uint64{1, 2}
		mu.Unlock()
		reach(2*digestInterval, 1)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
