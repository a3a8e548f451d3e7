package insight

import (
	"context"
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
	// Raft returns what raft knows now. It does not wait.
	Raft func() Raft
	// Now is the wall clock, against which certificates are held.
	Now func() time.Time
}

// Raft is what the leader knows of the group at one moment.
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
}

// New returns a server.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// ClusterHealth judges the managers as they are now.
func (s *Server) ClusterHealth(context.Context, *skep.ClusterHealthRequest) (*skep.ClusterHealthResponse, error) {
	snapshot := s.cfg.Store.Read()
	cluster, _ := snapshot.Clusters.Get(s.cfg.ClusterID)
	return Judge(s.cfg.Now(), s.cfg.Raft(), cluster, snapshot.Nodes.All()), nil
}
