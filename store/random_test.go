package store_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"skep/api"
	"skep/model"
	"skep/store"
	"skep/store/storetest"
)

// group is managers that agree on a log, with the agreement left out: what is in
// log is committed, what the leader has handed over may be or not.
type group struct {
	members []*member
	leader  *member
	term    uint64
	log     []logged // entry i has index i+1
	sent    []*sent
	// installed is whether a member took a snapshot: it may have waited for what is in it.
	installed bool
}

// logged is a committed entry; without data it is not for the store.
type logged struct {
	term uint64
	data []byte
}

type member struct {
	name    string
	store   *store.Store
	held    heldLog
	refuses bool // since it refused one, until it leads again
	applied int
}

// sent is a transaction and the object that shows whether it was committed.
type sent struct {
	marker  string
	pending *store.Pending
}

func (g *group) catchUp(t *rapid.T, m *member, to int) {
	if rapid.Bool().Draw(t, "all at once") && m.applied < to {
		var entries []store.Entry
		for i, e := range g.log[m.applied:to] {
			if e.data != nil {
				entries = append(entries, store.Entry{Index: uint64(m.applied + i + 1), Term: e.term, Data: e.data})
			}
		}
		if err := m.store.Apply(entries...); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		m.store.Applied(uint64(to), g.log[to-1].term)
		m.applied = to
	}
	for ; m.applied < to; m.applied++ {
		e := g.log[m.applied]
		if e.data != nil {
			if err := m.store.Apply(store.Entry{Index: uint64(m.applied + 1), Term: e.term, Data: e.data}); err != nil {
				t.Fatalf("%s: %v", m.name, err)
			}
		}
		m.store.Applied(uint64(m.applied+1), e.term)
	}
}

// propose runs a transaction of random writes and one that marks it.
func (g *group) propose(t *rapid.T) {
	marker := fmt.Sprint("marker", len(g.sent))
	p, err := g.leader.store.Propose(func(tx *store.Tx) error {
		for range rapid.IntRange(0, 3).Draw(t, "writes") {
			storetest.AnyWrite(t, tx)
		}
		return tx.Create(&api.Config{Id: marker})
	})
	if err != nil {
		t.Fatalf("propose %s on %s: %v", marker, g.leader.name, err)
	}
	g.sent = append(g.sent, &sent{marker, p})
}

// accept commits the first n of what the leader has handed over.
func (g *group) accept(t *rapid.T, n int) {
	for range n {
		data := g.leader.held.pop()
		g.log = append(g.log, logged{g.term, data})
		var req api.InternalRaftRequest
		if err := proto.Unmarshal(data, &req); err != nil {
			t.Fatal(err)
		}
		for _, a := range req.Action {
			if c := a.GetConfig(); c != nil && c.Meta.GetVersion().GetIndex() > uint64(len(g.log)) {
				t.Fatalf("version %d is above its entry's index %d", c.Meta.Version.Index, len(g.log))
			}
		}
	}
}

func (g *group) elect(t *rapid.T) {
	if !g.leader.refuses {
		g.accept(t, rapid.IntRange(0, g.leader.held.len()).Draw(t, "of the old leader's entries survive"))
	}
	g.leader.store.Follow()
	g.leader.held.held, g.leader.refuses = nil, false
	g.leader = rapid.SampledFrom(g.members).Draw(t, "leader")
	g.term++
	g.log = append(g.log, logged{term: g.term}) // which a leader begins with
	g.catchUp(t, g.leader, len(g.log))
	g.leader.store.Lead(g.term)
}

// A committed write is on every manager, a refused one on none, and all
// managers are equal at the same index, whoever led in between.
func TestManagersThatApplyTheSameLogAreEqual(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g := &group{term: 1}
		for _, name := range []string{"a", "b", "c"} {
			m := &member{name: name}
			m.store = store.New(store.Config{Log: &m.held, Freeze: true})
			g.members = append(g.members, m)
		}
		g.leader = g.members[0]
		g.leader.store.Lead(1)
		t.Repeat(map[string]func(*rapid.T){
			"propose": g.propose,
			"accept": func(t *rapid.T) {
				if g.leader.refuses {
					t.Skip("the log refuses everything")
				}
				g.accept(t, rapid.IntRange(0, g.leader.held.len()).Draw(t, "entries"))
			},
			"apply": func(t *rapid.T) {
				m := rapid.SampledFrom(g.members).Draw(t, "member")
				g.catchUp(t, m, rapid.IntRange(m.applied, len(g.log)).Draw(t, "to"))
			},
			"another entry": func(*rapid.T) { g.log = append(g.log, logged{term: g.term}) },
			"refuse": func(t *rapid.T) {
				log := &g.leader.held
				from := 0
				if !g.leader.refuses {
					from = rapid.IntRange(0, log.len()).Draw(t, "from entry")
				}
				refused := log.held[from:]
				log.held = log.held[:from:from]
				g.leader.refuses = g.leader.refuses || len(refused) > 0
				g.leader.store.Refused(refused)
			},
			"elect": g.elect,
			"snapshot": func(t *rapid.T) {
				from, to := rapid.SampledFrom(g.members).Draw(t, "from"), rapid.SampledFrom(g.members).Draw(t, "to")
				if to == g.leader || from.applied <= to.applied {
					t.Skip("nothing to install")
				}
				var b bytes.Buffer
				if _, err := from.store.Read().WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				if err := to.store.Restore(&b); err != nil {
					t.Fatal(err)
				}
				to.applied, g.installed = from.applied, true
				to.store.Applied(uint64(to.applied), g.log[to.applied-1].term)
			},
		})
		g.elect(t) // so that nothing is on its way
		want, err := g.leader.store.Read().Hash()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range g.members {
			g.catchUp(t, m, len(g.log))
			if got, err := m.store.Read().Hash(); err != nil || got != want {
				t.Fatalf("%s differs from %s (%v)", m.name, g.leader.name, err)
			}
			m.store.CheckFrozen()
		}
		for _, x := range g.sent {
			err := x.pending.Wait(context.Background())
			_, there := g.leader.store.Read().Configs.Get(x.marker)
			switch {
			case err == nil && !there:
				t.Fatalf("%s was acknowledged and is lost", x.marker)
			case err != nil && model.KindOf(err) == model.Unavailable && there:
				t.Fatalf("%s was said not to be written and is there: %v", x.marker, err)
			case model.KindOf(err) == model.Unknown && !g.installed:
				t.Fatalf("%s: nobody can tell, though all is applied: %v", x.marker, err)
			case err != nil && model.KindOf(err) != model.Unavailable && model.KindOf(err) != model.Unknown:
				t.Fatalf("%s: %v", x.marker, err)
			}
		}
	})
}
