package insight

import (
	"context"
	"sync"
	"time"

	"skep/api"
	"skep/api/skep"
	"skep/store"
)

// Config is what a server needs; all of it is required.
type Config struct {
	Store *store.Store
	// ClusterID is the ID of the cluster object.
	ClusterID string
	// Raft returns what raft knows now. It does not wait. Where it does not say since
	// when a member is unreachable, the server says since when it has seen it so.
	Raft func() Raft
	// Changed returns a channel that is closed when reachability may have changed.
	Changed func() <-chan struct{}
	// Now is the wall clock, against which certificates are held.
	Now func() time.Time
}

// Raft is what the leader knows of the group at one moment. It belongs to the
// server.
type Raft struct {
	// Leader is a raft ID, zero if none is known.
	Leader       uint64
	Term, Commit uint64
	Members      []Member
}

// Member is one member of the group.
type Member struct {
	RaftID       uint64
	NodeID, Addr string
	// Learner gets the log and does not vote.
	Learner      bool
	Reachability api.RaftMemberStatus_Reachability
	// UnreachableSince is when the leader lost it; zero if that is not known.
	UnreachableSince time.Time
	// Match is the last entry that it is known to have.
	Match uint64
}

// Server serves Insight.
type Server struct {
	skep.UnimplementedInsightServer
	cfg Config

	mu sync.Mutex
	// lost says since when members are unreachable, by raft ID.
	lost map[uint64]time.Time
}

// New returns a server.
func New(cfg Config) *Server { return &Server{cfg: cfg, lost: map[uint64]time.Time{}} }

// Run remembers since when members are unreachable, until ctx ends. It runs while
// this manager leads: nobody else knows.
func (s *Server) Run(ctx context.Context) error {
	defer s.forget()
	for {
		changed := s.cfg.Changed()
		s.view()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.lost)
}

// view is what raft knows now, with since when members are unreachable.
func (s *Server) view() Raft {
	raft, now := s.cfg.Raft(), s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := make(map[uint64]time.Time, len(s.lost))
	for i, m := range raft.Members {
		if m.Reachability != api.RaftMemberStatus_UNREACHABLE || m.RaftID == raft.Leader {
			continue
		}
		since, ok := s.lost[m.RaftID]
		if !ok {
			since = now
		}
		lost[m.RaftID] = since
		if m.UnreachableSince.IsZero() {
			raft.Members[i].UnreachableSince = since
		}
	}
	s.lost = lost
	return raft
}

// ClusterHealth judges the managers as they are now.
func (s *Server) ClusterHealth(context.Context, *skep.ClusterHealthRequest) (*skep.ClusterHealthResponse, error) {
	snapshot := s.cfg.Store.Read()
	cluster, _ := snapshot.Clusters.Get(s.cfg.ClusterID)
	return Judge(s.cfg.Now(), s.view(), cluster, snapshot.Nodes.All()), nil
}
