package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

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
	// Connect returns a connection to the leader, with this manager's certificate.
	Connect(leader LeaderInfo) (grpc.ClientConnInterface, error)
	// Absence says why nobody leads and what to do, empty if that is not known.
	Absence() string
}

// LeaderInfo is who leads. The zero value is nobody.
type LeaderInfo struct {
	// Self is true when it is this manager and it may write.
	Self bool
	// NodeID and Addr are those of the leader, empty when nobody leads.
	NodeID, Addr string
}

// loopText is what tells that a request was passed on to a manager that does not lead.
const loopText = "passed on to a manager that does not lead"

// toLeader returns where the leader is that answers a request of id, nil if it is here.
func (s *server) toLeader(ctx context.Context, id Identity) (*forward, error) {
	leader, _ := s.cfg.Leadership.Leader()
	if leader.Self {
		return nil, nil
	}
	f := &forward{caller: id, until: time.Now().Add(LeaderWait)}
	leader, err := s.awaitLeader(ctx, f.until)
	if err != nil || leader.Self {
		return nil, err
	}
	// Also of a manager that is unknown here: the request would go on as the manager's own,
	// with its rights, or as nobody's. Only managers pass on, so that others make no loop.
	if md, ok := metadata.FromIncomingContext(ctx); ok && passedOn(md) && id.byManager {
		return nil, model.Errorf(model.Exhausted, "the request was %s: manager %s at %s does; try again", loopText, leader.NodeID, leader.Addr)
	}
	f.leader = leader
	_, f.changed = s.cfg.Leadership.Leader()
	return f, nil
}

// awaitLeader returns who leads, as soon as somebody does.
func (s *server) awaitLeader(ctx context.Context, until time.Time) (LeaderInfo, error) {
	leader, changed := s.cfg.Leadership.Leader()
	if leader != (LeaderInfo{}) {
		return leader, nil
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return LeaderInfo{}, s.noLeader(ctx.Err())
		}
		if leader, changed = s.cfg.Leadership.Leader(); leader != (LeaderInfo{}) {
			return leader, nil
		}
	}
}

// read returns when what is read here is as new as the method wants it.
func (s *server) read(ctx context.Context, m *method) error {
	if m.route != Read || s.cfg.Leadership == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, LeaderWait)
	defer cancel()
	if err := s.cfg.Leadership.ReadBarrier(ctx); err != nil {
		return s.noLeader(err)
	}
	return nil
}

func (s *server) noLeader(err error) error {
	why := s.cfg.Leadership.Absence()
	if why == "" {
		why = "the managers that can reach each other are no majority, or this one is still starting: look at \"swarmctl node ls\" and at the managers' logs"
	}
	return model.Errorf(model.Unavailable, "the swarm has no leader: %s, then try again: %w", why, err)
}
