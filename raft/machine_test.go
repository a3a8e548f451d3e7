package raft_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"skep/raft"
	"skep/vfs"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
	}
	goleak.VerifyTestMain(m)
}

// machine is a state machine whose state is the list of what it applied. It keeps the
// rules that raft.StateMachine states for its user, and reports when raft breaks its own.
type machine struct {
	t testing.TB

	mu      sync.Mutex
	node    *raft.Node
	state   []string
	index   uint64
	term    uint64 // in which it leads; 0: it does not
	ledIn   uint64 // the last one in which it led, as long as somebody waits for what it proposed then
	waiting []*waiter
	changed chan struct{}
	refused []string
	story   []string // Lead and Follow
	acked   []string // what was proposed here and applied

	failApply error
}

// waiter is somebody who proposed.
type waiter struct {
	data    string
	outcome chan outcome
}

// patience is how long who proposed waits for the next leader.
const patience = 4 * time.Second

type outcome string

const (
	applied outcome = "applied"
	refused outcome = "refused"
	lost    outcome = "lost"
	unknown outcome = "unknown"
)

func newMachine(t testing.TB) *machine {
	return &machine{t: t, changed: make(chan struct{})}
}

// notify wakes all who wait for a change, with the lock held.
func (m *machine) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// until waits for a condition.
func (m *machine) until(ctx context.Context, what string, ok func() bool) {
	m.t.Helper()
	for {
		m.mu.Lock()
		done, changed := ok(), m.changed
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			m.t.Errorf("waiting until %s: %v", what, context.Cause(ctx))
			return
		}
	}
}

func (m *machine) Apply(entries []raft.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.notify()
	if m.failApply != nil {
		return m.failApply
	}
	for _, e := range entries {
		if e.Index <= m.index {
			m.t.Errorf("entry %d is applied after %d", e.Index, m.index)
		}
		m.index = e.Index
		m.state = append(m.state, string(e.Data))
		if m.ledIn != 0 && e.Term == m.ledIn {
			if len(m.waiting) == 0 || m.waiting[0].data != string(e.Data) {
				m.t.Errorf("entry %d of the own term is %q, which is not what was proposed next", e.Index, e.Data)
				continue
			}
			m.acked = append(m.acked, string(e.Data))
			m.waiting[0].outcome <- applied
			m.waiting = m.waiting[1:]
		}
	}
	return nil
}

func (m *machine) Applied(index, term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if term > m.ledIn {
		m.settle(lost)
	}
	if index < m.index {
		m.t.Errorf("applied to %d, after entry %d", index, m.index)
	}
	m.index = index
	m.notify()
}

func (m *machine) Refused(data [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.notify()
	for _, d := range data {
		m.refused = append(m.refused, string(d))
		for i, w := range m.waiting {
			if w.data == string(d) {
				w.outcome <- refused
				m.waiting = append(m.waiting[:i:i], m.waiting[i+1:]...)
				break
			}
		}
	}
}

func (m *machine) Lead(term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.term != 0 {
		m.t.Errorf("leads in term %d while it leads in %d", term, m.term)
	}
	m.term, m.ledIn = term, term
	m.story = append(m.story, fmt.Sprintf("lead %d at %d", term, m.index))
	m.notify()
}

func (m *machine) Follow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.term == 0 {
		m.t.Error("follows though it does not lead")
	}
	m.term = 0
	m.story = append(m.story, "follow")
	m.notify()
	// A member that hears of no other leader, or cannot apply what it has, keeps nobody waiting.
	term := m.ledIn
	time.AfterFunc(patience, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.ledIn == term {
			m.settle(unknown)
		}
	})
}

func (m *machine) End() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(unknown)
}

// settle ends the waiting for what was proposed in a term that is over.
func (m *machine) settle(as outcome) {
	for _, w := range m.waiting {
		w.outcome <- as
	}
	m.waiting, m.ledIn = nil, 0
}

func (m *machine) Snapshot() (raft.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return snapshot(m.state[:len(m.state):len(m.state)]), nil
}

func (m *machine) Restore(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = nil
	return json.Unmarshal(data, &m.state)
}

type snapshot []string

func (s snapshot) WriteTo(w io.Writer) (int64, error) {
	b, err := json.Marshal([]string(s))
	if err != nil {
		return 0, err
	}
	n, err := w.Write(b)
	return int64(n), err
}

// propose proposes and returns where the outcome comes; refused at once if the machine
// does not lead.
func (m *machine) propose(data ...string) []<-chan outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []<-chan outcome
	var bytes [][]byte
	for _, d := range data {
		w := &waiter{d, make(chan outcome, 1)}
		out = append(out, w.outcome)
		if m.term == 0 {
			w.outcome <- refused
			continue
		}
		m.waiting = append(m.waiting, w)
		bytes = append(bytes, []byte(d))
	}
	if len(bytes) > 0 {
		m.node.Propose(bytes)
	}
	return out
}

// acknowledged returns what was proposed here and applied.
func (m *machine) acknowledged() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.acked[:len(m.acked):len(m.acked)]
}

func (m *machine) contents() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state[:len(m.state):len(m.state)]
}

// running is a node that runs.
type running struct {
	*machine
	node *raft.Node
	end  context.CancelFunc
	err  chan error
}

// config is the configuration that most tests want.
func config(fsys vfs.FS) raft.Config {
	return raft.Config{FS: fsys, Dir: "raft", Key: [32]byte{1, 2, 3}, NodeID: "node", Addr: "10.0.0.1:2377"}
}

// start runs a node until the test ends or stop is called.
func start(t testing.TB, cfg raft.Config) *running {
	t.Helper()
	return startMachine(t, cfg, newMachine(t))
}

func startMachine(t testing.TB, cfg raft.Config, m *machine) *running {
	t.Helper()
	r := &running{machine: m, err: make(chan error, 1)}
	cfg.StateMachine = m
	node, err := raft.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.node, m.node = node, node
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	r.end = end
	go func() { r.err <- node.Run(ctx) }()
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// stop ends the node, if it has not ended, and returns what Run returned.
func (r *running) stop() error {
	r.end()
	return r.wait()
}

// wait waits until Run has returned, and returns its error.
func (r *running) wait() error {
	err := <-r.err
	r.err <- err // for whoever asks again
	return err
}

// lead waits until the node leads.
func (r *running) lead(t testing.TB) {
	t.Helper()
	r.until(t.Context(), "it leads", func() bool { return r.term != 0 })
}

// lead starts a node and waits until it leads.
func lead(t testing.TB, cfg raft.Config) *running {
	t.Helper()
	r := start(t, cfg)
	r.lead(t)
	return r
}

// apply proposes, one after the other, and wants everything applied.
func (r *running) apply(t testing.TB, data ...string) {
	t.Helper()
	for _, d := range data {
		if got := <-r.propose(d)[0]; got != applied {
			t.Fatalf("%q was %s", d, got)
		}
	}
}

func numbered(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("entry %d", i))
	}
	return out
}
