package dispatcher

import (
	"context"
	"sync"
	"time"

	"skep/control/dispatch"
	"skep/model"
)

const (
	// A node may register this often until a registration has lasted for calm, and
	// open this many streams of assignments in one session within the same time.
	maxRegistrations = 3
	maxOpens         = 10
	calm             = 8 * time.Second
	// retryDown is when a DOWN that could not be written is tried again.
	retryDown = time.Second
)

// session is one node that is here. What it needs beyond memory, the streams
// themselves, belongs to gRPC.
type session struct {
	id, node string
	// addr is where the node registered from, without port; empty when nobody knows.
	addr string
	// ended is closed when it is over; why is set before.
	ended chan struct{}
	why   error
	// wake is readable when the node's object may have changed.
	wake chan struct{}

	// Guarded by the mutex of sessions.

	// grace is how long the node may be silent. It follows from the period that the
	// node was told last: of a shorter one it learns with its next heartbeat.
	grace time.Duration
	// Closed when a newer stream takes over.
	messages, assignments chan struct{}
	opens                 int
	opened                time.Time
}

// member is what is known of a node, with or without a session.
type member struct {
	session    *session
	registered time.Time
	attempts   int
}

// sessions is who is here. All methods are quick and never wait, so that they
// may be called in a transaction; none calls the store.
type sessions struct {
	newID func() string
	// sooner is readable when next has become earlier.
	sooner chan struct{}

	mu      sync.Mutex
	running bool
	// opened is closed while a term runs.
	opened  chan struct{}
	members map[string]*member
	live    dispatch.Liveness
	// due is what next returned last.
	due time.Time
}

func newSessions(newID func() string) *sessions {
	return &sessions{newID: newID, sooner: make(chan struct{}, 1), opened: make(chan struct{}), members: make(map[string]*member)}
}

// open begins a term, in which nodes have until grace to come back.
func (r *sessions) open(now time.Time, nodes []string, grace time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running, r.live, r.due = true, dispatch.Liveness{}, time.Time{}
	for _, node := range nodes {
		r.live.Beat(node, now, grace)
	}
	close(r.opened)
}

// awaitOpen waits until a term runs.
func (r *sessions) awaitOpen(ctx context.Context) error {
	r.mu.Lock()
	opened := r.opened
	r.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close ends the term and all sessions.
func (r *sessions) close(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	r.opened = make(chan struct{})
	for _, m := range r.members {
		m.end(why)
	}
	clear(r.members)
}

// enter gives node a session, the one named by id if it is its current one, and
// a channel that is closed when another stream takes its place. While the session of a
// node lasts, another machine gets none in its name: it is a copy, and the two would take
// the session from each other for ever. A node that has moved names its session, or waits
// until it has ended.
func (r *sessions) enter(node, id, addr string, now time.Time, grace time.Duration) (*session, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.running {
		return nil, nil, errNotRunning()
	}
	m := r.members[node]
	if m == nil {
		m = &member{}
		r.members[node] = m
	}
	if s := m.session; s == nil || s.id != id {
		if s != nil && s.addr != addr && s.addr != "" && addr != "" {
			return nil, nil, model.Errorf(model.Unavailable, "node %s has a session from %s, and this is %s: if the state directory was copied, remove the copy and join it with an empty one; if the node has moved, it is let in as soon as the session has ended", node, s.addr, addr)
		}
		if now.Sub(m.registered) > calm {
			m.attempts = 0
		}
		if m.attempts++; m.attempts > maxRegistrations {
			return nil, nil, model.Errorf(model.Unavailable, "node %s registers too often: %d times within %v; is its state directory in use twice?", node, m.attempts, calm)
		}
		m.end(model.Errorf(model.Conflict, "node %s has registered anew", node))
		m.registered = now
		m.session = &session{id: r.newID(), node: node, grace: grace, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	}
	m.session.addr = addr
	takeOver(&m.session.messages)
	r.beat(node, now, m.session.grace)
	return m.session, m.session.messages, nil
}

// takeOver closes the channel of the stream before and makes one for the next.
func takeOver(stream *chan struct{}) {
	if *stream != nil {
		close(*stream)
	}
	*stream = make(chan struct{})
}

// find returns the session of node if it is id, and counts as a beat.
func (r *sessions) find(node, id string, now time.Time) (*session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lookUp(node, id, now)
}

// heartbeat is find for a node that is told how long it may be silent from now on.
func (r *sessions) heartbeat(node, id string, now time.Time, grace time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.lookUp(node, id, now)
	if err != nil {
		return err
	}
	s.grace = grace
	r.beat(node, now, grace)
	return nil
}

func (r *sessions) lookUp(node, id string, now time.Time) (*session, error) {
	if !r.running {
		return nil, errNotRunning()
	}
	m := r.members[node]
	switch {
	case m == nil || m.session == nil:
		return nil, model.Errorf(model.NotFound, "node %s is not registered", node)
	case m.session.id != id:
		return nil, model.Errorf(model.Invalid, "session invalid: node %s has another one", node)
	}
	r.beat(node, now, m.session.grace)
	return m.session, nil
}

// openAssignments is find for the one stream of assignments of a session. A
// node that opens it again and again cannot be helped by another stream: its
// session ends.
func (r *sessions) openAssignments(node, id string, now time.Time) (*session, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.lookUp(node, id, now)
	if err != nil {
		return nil, nil, err
	}
	if now.Sub(s.opened) > calm {
		s.opens, s.opened = 0, now
	}
	if s.opens++; s.opens > maxOpens {
		err := model.Errorf(model.Conflict, "node %s opened its assignments %d times within %v: it must register anew", node, s.opens, calm)
		r.members[node].end(err)
		return nil, nil, err
	}
	takeOver(&s.assignments)
	return s, s.assignments, nil
}

// end ends s if it is still the session of its node.
func (r *sessions) end(s *session, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.members[s.node]; m != nil && m.session == s {
		m.end(why)
	}
}

func (m *member) end(why error) {
	if m.session != nil {
		m.session.why = why
		close(m.session.ended)
		m.session = nil
	}
}

func (r *sessions) has(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members[node] != nil && r.members[node].session != nil
}

// wake has the node looked at; one that is gone is forgotten.
func (r *sessions) wake(node string, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[node]
	if gone {
		if m != nil {
			m.end(model.Errorf(model.Denied, "node %s was removed from the swarm", node))
		}
		delete(r.members, node)
		r.live.Forget(node)
		return
	}
	m.wake()
}

// wakeAll has all nodes looked at.
func (r *sessions) wakeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		m.wake()
	}
}

func (m *member) wake() {
	if m == nil || m.session == nil {
		return
	}
	select {
	case m.session.wake <- struct{}{}:
	default:
	}
}

// next returns when expire is due, zero when nobody is waited for.
func (r *sessions) next() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = r.live.Next()
	return r.due
}

// expire ends the sessions of nodes whose time is over, and returns these.
func (r *sessions) expire(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	nodes := r.live.Step(now)
	for _, node := range nodes {
		if m := r.members[node]; m != nil {
			m.end(model.Errorf(model.Conflict, "node %s sent no heartbeat in time", node))
			delete(r.members, node)
		}
	}
	return nodes
}

// retry has expire return nodes again, if they do not come back before.
func (r *sessions) retry(now time.Time, nodes []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, node := range nodes {
		if m := r.members[node]; m == nil || m.session == nil {
			r.beat(node, now, retryDown)
		}
	}
}

func (r *sessions) beat(node string, now time.Time, grace time.Duration) {
	r.live.Beat(node, now, grace)
	if r.due.IsZero() || r.live.Next().Before(r.due) {
		r.due = r.live.Next()
		select {
		case r.sooner <- struct{}{}:
		default:
		}
	}
}

func errNotRunning() error {
	return model.Errorf(model.Unavailable, "this manager does not serve nodes at the moment; try again")
}
