package client

import (
	"math"
	"slices"
	"strings"
	"sync"

	"skep/api"
)

const (
	// The weight of what is observed against what was known.
	smoothing = 0.5
	maxWeight = 256
	success   = 10
	failure   = -10
	// Even the worst manager is tried now and then.
	bias = 0.001
)

// Managers is the list of managers that a node knows, each with a weight that
// grows with success and falls with failure. The zero value knows none. It may be
// used by several goroutines.
type Managers struct {
	mu    sync.Mutex
	known map[string]*manager // by address
}

type manager struct {
	nodeID string
	weight int
}

// NewManagers returns a list of addresses, all alike.
func NewManagers(addrs ...string) *Managers {
	m := new(Managers)
	for _, addr := range addrs {
		m.add(addr, "", success)
	}
	return m
}

// Set makes peers the whole list, as a session says it. What was observed of
// those that stay is kept; a peer without an address is skipped. An empty list
// changes nothing: nobody would be left to ask.
func (m *Managers) Set(peers []*api.WeightedPeer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[string]*manager, len(peers))
	for _, p := range peers {
		addr := p.GetPeer().GetAddr()
		if addr == "" {
			continue
		}
		known, ok := m.known[addr]
		if !ok {
			known = &manager{weight: clip(p.GetWeight())}
		}
		known.nodeID = p.GetPeer().GetNodeId()
		next[addr] = known
	}
	if len(next) > 0 {
		m.known = next
	}
}

// Succeeded notes that the manager at addr answered.
func (m *Managers) Succeeded(addr string) { m.observe(addr, success) }

// Failed notes that the manager at addr did not answer.
func (m *Managers) Failed(addr string) { m.observe(addr, failure) }

// Pick chooses an address with a probability that follows the weights; at, from 0
// to below 1, is the random number. Addresses in except are chosen only when there
// is no other. It is false when no manager is known.
func (m *Managers) Pick(at float64, except ...string) (addr string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	addrs := m.addrs()
	if others := slices.DeleteFunc(slices.Clone(addrs), func(a string) bool { return slices.Contains(except, a) }); len(others) > 0 {
		addrs = others
	}
	if len(addrs) == 0 {
		return "", false
	}
	var total float64
	for _, addr := range addrs {
		total += m.known[addr].chance()
	}
	at *= total
	for _, addr := range addrs {
		if at -= m.known[addr].chance(); at < 0 {
			return addr, true
		}
	}
	return addrs[len(addrs)-1], true
}

// Peers returns the list, sorted by address, as it may be stored and given to Set.
func (m *Managers) Peers() []*api.WeightedPeer {
	m.mu.Lock()
	defer m.mu.Unlock()
	var peers []*api.WeightedPeer
	for _, addr := range m.addrs() {
		known := m.known[addr]
		peers = append(peers, &api.WeightedPeer{Peer: &api.Peer{NodeId: known.nodeID, Addr: addr}, Weight: int64(known.weight)})
	}
	return peers
}

// String is the addresses with commas between, for messages.
func (m *Managers) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.addrs(), ", ")
}

func (m *Managers) addrs() []string {
	addrs := make([]string, 0, len(m.known))
	for addr := range m.known {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	return addrs
}

func (m *Managers) add(addr, nodeID string, weight int) {
	if addr == "" {
		return
	}
	if m.known == nil {
		m.known = make(map[string]*manager)
	}
	m.known[addr] = &manager{nodeID: nodeID, weight: weight}
}

func (m *Managers) observe(addr string, what int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.known[addr]; known != nil {
		known.weight = clip(int64(math.Ceil(smoothing*float64(what) + (1-smoothing)*float64(known.weight))))
	}
}

func (m *manager) chance() float64 { return float64(max(m.weight, 0)) + bias }

func clip(weight int64) int { return int(min(max(weight, -maxWeight), maxWeight)) }
