package insight

import (
	"slices"

	"skep/raft"
)

// RaftOf returns what a member of the group says of it.
func RaftOf(s raft.Status) Raft {
	out := Raft{Leader: s.Leader, Term: s.Term, Commit: s.Commit}
	for _, m := range s.Members {
		member := Member{
			RaftID: m.GetRaftId(), NodeID: m.GetNodeId(), Addr: m.GetAddr(),
			Learner:      slices.Contains(s.Learners, m.GetRaftId()),
			Reachability: m.GetStatus().GetReachability(),
			Match:        s.Match[m.GetRaftId()],
		}
		if m.GetRaftId() == s.ID {
			member.Match = s.LastIndex
		}
		out.Members = append(out.Members, member)
	}
	return out
}
