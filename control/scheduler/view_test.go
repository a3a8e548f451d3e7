package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"skep/api"
	"skep/store"
	"skep/store/storetest"

	"pgregory.net/rapid"
)

func TestTheViewKeepsItsPromise(t *testing.T) {
	t.Parallel()
	storetest.CheckView(t, func() store.View { return &view{} })
}

// Equal compares what the view knows: of nodes, of services and of what is
// pending. Pools are compared too, as far as both have them; other caches and what
// is remembered of failures are no part of it.
func (v *view) Equal(o store.View) bool {
	return v.String() == o.(*view).String() && v.poolsRight()
}

// String shows what the view knows.
func (v *view) String() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(v.byID)) {
		n := v.byID[id]
		fmt.Fprintf(&b, "node %s version %d holds %d active %d cpu %d mem %d generic %v ports %v pinned %v\n", id,
			n.object.GetMeta().GetVersion().GetIndex(), n.held, n.active, n.cpu, n.mem, n.generic, n.ports, sorted(n.pinned))
	}
	for _, id := range slices.Sorted(maps.Keys(v.services)) {
		for _, node := range slices.Sorted(maps.Keys(v.byID)) {
			if c := v.services[id].on(v.byID[node]); c != 0 {
				fmt.Fprintf(&b, "service %s has %d on %s\n", id, c, node)
			}
		}
	}
	var groups []string
	for k, g := range v.groups {
		groups = append(groups, fmt.Sprintf("group %v of %s: %v\n", k, g.class.key, sorted(g.tasks)))
	}
	slices.Sort(groups)
	b.WriteString(strings.Join(groups, ""))
	for _, k := range slices.Sorted(maps.Keys(v.classes)) {
		c := v.classes[k]
		fmt.Fprintf(&b, "class %s: %d tasks, %d groups, silent %v\n", k, c.tasks, c.groups.Len(), sorted(c.unsaid))
	}
	return b.String()
}

func sorted(q queue) []string {
	ids := q.all(q.len())
	slices.Sort(ids)
	return ids
}

// poolsRight reports whether every pool has the nodes that it should.
func (v *view) poolsRight() bool {
	for _, p := range v.pools {
		size := 0
		for _, n := range v.nodes {
			if n == nil {
				continue
			}
			if p.has(n) != (n.object != nil && p.need.suits(n.object)) || p.has(n) != slices.Contains(n.pools, p) {
				return false
			}
			if p.has(n) {
				size++
			}
		}
		if size != p.size {
			return false
		}
	}
	return true
}

// However nodes come, go and fill up, the first node of a board is the best of
// all that fit.
func TestABoardAlwaysKnowsTheBestNode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := store.NewLocal(store.Config{})
		v := &view{}
		v.Build(s.Read())
		d := needOf(&api.Task{ServiceId: "service1", Spec: &api.TaskSpec{Resources: &api.ResourceRequirements{
			Reservations: &api.Resources{NanoCpus: 1e9}}, Placement: &api.Placement{Constraints: []string{"node.labels.zone==a"}}}})
		p := v.pool(d)
		p.classes++
		g := groupKey{service: "service1"}
		v.board(p, nil, groupKey{})
		v.board(p, d, g)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if _, err := s.Propose(func(tx *store.Tx) error {
				storetest.AnyWrite(t, tx)
				for _, c := range tx.Writes() {
					v.Apply(c)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for _, b := range v.boards {
				var best *node
				for _, n := range v.nodes {
					if n == nil || !v.belongs(b, n) {
						continue
					}
					if best != nil {
						x, y := v.entryOf(b, n), v.entryOf(b, best)
						if v.compare(&x, &y) > 0 {
							continue
						}
					}
					best = n
				}
				if got := b.first(v); got != best {
					t.Fatalf("first is %+v, want %+v", got, best)
				}
				count := 0
				b.scan(v, len(v.nodes), func(*node) bool { count++; return false })
				if count != len(b.entries) {
					t.Fatalf("a scan saw %d of %d nodes", count, len(b.entries))
				}
			}
		}
	})
}
