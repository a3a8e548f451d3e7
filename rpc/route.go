package rpc

import (
	"context"
	"time"

	"skep/model"
)

// Route says which manager answers a method.
type Route uint8

const (
	// Leader is for what writes, sessions, the CA, membership: the leader answers.
	Leader Route = iota + 1
	// Read is for what only reads: the manager that was asked answers, from a
	// state at least as new as the moment of asking.
	Read
	// Local is for what concerns the one process that was asked.
	Local
)

// LeaderWait is how long a request waits for a leader at most.
const LeaderWait = 4 * time.Second

// Leadership is what this package needs to know of raft.
type Leadership interface {
	// Leader returns who leads as far as this manager knows, and a channel that
	// is closed when that may have changed.
	Leader() (LeaderInfo, <-chan struct{})
	// ReadBarrier returns when what Store.Read returns is at least as new as
	// everything that was acknowledged anywhere before the call.
	ReadBarrier(ctx context.Context) error
}

// LeaderInfo is who leads. The zero value is nobody.
type LeaderInfo struct {
	// Self is true when it is this manager and it may write.
	Self bool
	// NodeID and Addr are those of the leader, empty when nobody leads.
	NodeID, Addr string
}

// route brings a request to where its method is answered; nil means here.
func (s *server) route(ctx context.Context, m *method) error {
	if s.cfg.Leadership == nil {
		return nil
	}
	switch m.route {
	case Leader:
		return s.awaitLeadership(ctx)
	case Read:
		ctx, cancel := context.WithTimeout(ctx, LeaderWait)
		defer cancel()
		if err := s.cfg.Leadership.ReadBarrier(ctx); err != nil {
			return noLeader(err)
		}
	case Local:
	}
	return nil
}

// awaitLeadership returns when this manager leads. The forwarding of a request
// to another manager that leads has its place here, and only here.
func (s *server) awaitLeadership(ctx context.Context) error {
	leader, changed := s.cfg.Leadership.Leader()
	if leader.Self {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, LeaderWait)
	defer cancel()
	for !leader.Self {
		if leader.NodeID != "" {
			return model.Errorf(model.Unavailable,
				"manager %s at %s leads this swarm, and this manager does not forward requests: ask that one", leader.NodeID, leader.Addr)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return noLeader(ctx.Err())
		}
		leader, changed = s.cfg.Leadership.Leader()
	}
	return nil
}

func noLeader(err error) error {
	return model.Errorf(model.Unavailable,
		"the swarm has no leader: the managers that can reach each other are no majority, or this one is still starting: look at \"swarmctl node ls\" and at the managers' logs, then try again: %w", err)
}
