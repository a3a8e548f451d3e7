package client

import (
	"math/rand/v2"
	"testing"

	"skep/api"
)

func peers(addrs ...string) []*api.WeightedPeer {
	var list []*api.WeightedPeer
	for _, addr := range addrs {
		list = append(list, &api.WeightedPeer{Peer: &api.Peer{NodeId: "node-" + addr, Addr: addr}, Weight: 10})
	}
	return list
}

// share returns how often each address is picked of a thousand.
func share(m *Managers, except ...string) map[string]int {
	random := rand.New(rand.NewPCG(1, 2))
	picked := make(map[string]int)
	for range 1000 {
		if addr, ok := m.Pick(random.Float64(), except...); ok {
			picked[addr]++
		}
	}
	return picked
}

func TestManagersThatAreAlikeArePickedAlike(t *testing.T) {
	t.Parallel()
	m := NewManagers("a", "b", "c", "")
	for addr, n := range share(m) {
		if n < 250 || n > 420 {
			t.Errorf("%q was picked %d times of 1000", addr, n)
		}
	}
	if got := m.String(); got != "a, b, c" {
		t.Errorf("managers %q", got)
	}
}

func TestAManagerThatFailsIsPickedSeldomAndComesBack(t *testing.T) {
	t.Parallel()
	m := NewManagers("a", "b")
	for range 5 {
		m.Failed("a")
	}
	if n := share(m)["a"]; n > 5 {
		t.Errorf("after failures it was picked %d times of 1000", n)
	}
	for range 10 {
		m.Succeeded("a")
	}
	if n := share(m)["a"]; n < 400 {
		t.Errorf("after successes it was picked %d times of 1000", n)
	}
}

func TestIfAllFailOneIsStillPicked(t *testing.T) {
	t.Parallel()
	m := NewManagers("a", "b")
	for range 20 {
		m.Failed("a")
		m.Failed("b")
	}
	if picked := share(m); picked["a"] < 300 || picked["b"] < 300 {
		t.Errorf("picked %v", picked)
	}
	if _, ok := new(Managers).Pick(0.5); ok {
		t.Error("a manager was picked where none is known")
	}
}

func TestThoseThatWereTriedAreLeftForLast(t *testing.T) {
	t.Parallel()
	m := NewManagers("a", "b")
	if picked := share(m, "a"); picked["a"] != 0 || picked["b"] != 1000 {
		t.Errorf("picked %v", picked)
	}
	if picked := share(m, "a", "b"); len(picked) != 2 {
		t.Errorf("with all tried, picked %v", picked)
	}
}

func TestASessionsListReplacesTheKnownOne(t *testing.T) {
	t.Parallel()
	m := NewManagers("a", "b")
	for range 20 {
		m.Failed("a")
	}
	m.Set(peers("a", "c", ""))
	if got := m.String(); got != "a, c" {
		t.Errorf("managers %q, want a and c", got)
	}
	if n := share(m)["a"]; n > 5 {
		t.Errorf("what was observed of a is forgotten: picked %d times", n)
	}
	m.Set(nil)
	if got := m.String(); got != "a, c" {
		t.Errorf("an empty list left %q: nobody would be left to ask", got)
	}
	back := new(Managers)
	back.Set(m.Peers())
	if got := back.Peers(); len(got) != 2 || got[0].GetPeer().GetNodeId() != "node-a" || got[0].GetWeight() != m.Peers()[0].GetWeight() {
		t.Errorf("stored and read: %v", got)
	}
}

func TestWeightsStayInBounds(t *testing.T) {
	t.Parallel()
	m := new(Managers)
	list := peers("a", "b")
	list[0].Weight, list[1].Weight = 1<<40, -1<<40
	m.Set(list)
	if got := m.Peers(); got[0].GetWeight() != maxWeight || got[1].GetWeight() != -maxWeight {
		t.Errorf("weights %v", got)
	}
	m.Failed("unknown")
	if got := m.String(); got != "a, b" {
		t.Errorf("managers %q", got)
	}
}
