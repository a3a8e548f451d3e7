package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/rpc/insight"
	"skep/store"
)

// join makes a node a learner of raft.
func (s *swarm) join(id string, raftID uint64, match uint64) {
	s.locked(func() {
		s.raft.Members = append(s.raft.Members, insight.Member{RaftID: raftID, NodeID: id, Addr: addrOf(int(raftID)), Learner: true, Reachability: api.RaftMemberStatus_REACHABLE, Match: match})
	})
}

// member changes what raft knows of a node.
func (s *swarm) member(id string, change func(*insight.Member)) {
	s.locked(func() {
		for i := range s.raft.Members {
			if s.raft.Members[i].NodeID == id {
				change(&s.raft.Members[i])
			}
		}
	})
}

// depart takes a node out of raft.
func (s *swarm) depart(id string) {
	s.locked(func() {
		var left []insight.Member
		for _, m := range s.raft.Members {
			if m.NodeID != id {
				left = append(left, m)
			}
		}
		s.raft.Members = left
	})
}

func (s *swarm) becomes(id string, role api.NodeRole) func() {
	return func() { s.editNode(id, func(n *api.Node) { n.Role = role }) }
}

func TestAPromotedNodeIsWaitedForUntilItVotes(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, s *swarm) {
		s.after(1*time.Second, s.becomes("w1", api.NodeRole_MANAGER))
		s.after(2*time.Second, func() { s.join("w1", 2, 40) })
		s.after(3*time.Second, func() { s.member("w1", func(m *insight.Member) { m.Match = 99 }) })
		s.after(4*time.Second, func() { s.member("w1", func(m *insight.Member) { m.Match = 100 }) })
		s.after(5*time.Second, func() { s.member("w1", func(m *insight.Member) { m.Learner = false }) })
		start := time.Now()
		r := s.ctl("node", "promote", "host-w1")
		r.expect(t, ExitOK, "host-w1: gets the certificate of a manager\n", "host-w1: joins the other managers\n", "host-w1: catches up: 60 entries to go\n",
			"host-w1: catches up: 1 entry to go\n", "host-w1: catches up\n", "host-w1: is a manager and votes\n")
		if waited := time.Since(start); waited != 5*time.Second || r.out != "" {
			t.Errorf("it came back after %s with %q, want 5s and nothing", waited, r.out)
		}
		s.ctl("node", "promote", "w1").expect(t, ExitError, "Error: node host-w1 is already a manager\n")
	})
}

func TestAPromotionThatIsUnderWayIsWaitedForOnly(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, s *swarm) {
		s.ctl("node", "promote", "w1", "--detach").expect(t, ExitOK)
		version := s.nodeNow("w1").Meta.Version.Index
		s.ctl("node", "promote", "w1", "--timeout", "3s").expect(t, ExitTimeout,
			"Error: it is not so after 3s that node host-w1 is a manager that votes: gets the certificate of a manager\nThe operation goes on, see 'swarmctl node inspect host-w1'.")
		if n := s.nodeNow("w1"); n.Meta.Version.Index != version || n.Spec.DesiredRole != api.NodeRole_MANAGER {
			t.Errorf("the node was written again: %v", n)
		}
	})
}

func TestSeveralNodesArePromotedSideBySide(t *testing.T) {
	bubble(t, 1, 2, func(t *testing.T, s *swarm) {
		for i, id := range []string{"w1", "w2"} {
			s.after(time.Second, s.becomes(id, api.NodeRole_MANAGER))
			s.after(time.Second, func() { s.join(id, uint64(i+2), 100) })
			s.after(2*time.Second, func() { s.member(id, func(m *insight.Member) { m.Learner = false }) })
		}
		start := time.Now()
		s.ctl("node", "promote", "w1", "w2", "nobody").expect(t, ExitNotFound, "host-w1: is a manager and votes\n", "host-w2: is a manager and votes\n", `node "nobody" not found`)
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("it took %s, want 2s for both", waited)
		}
	})
}

func TestWhatComesBetweenAPromotionIsSaid(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, s *swarm) {
		s.editNode("w1", func(n *api.Node) { n.Status.State = api.NodeStatus_DOWN })
		s.after(1*time.Second, func() { s.locked(func() { s.err = noLeader() }) })
		s.after(2*time.Second, func() { s.locked(func() { s.err = nil }) })
		s.after(3*time.Second, func() {
			s.editNode("w1", func(n *api.Node) { n.Spec.DesiredRole = api.NodeRole_WORKER })
		})
		s.ctl("node", "promote", "w1").expect(t, ExitFailed, "host-w1: waits for the node: it is down\n", "host-w1: waits for a manager: no manager leads", "Error: node host-w1 was demoted meanwhile")
		s.after(time.Second, func() { s.write(func(tx *store.Tx) error { return tx.Delete(s.nodeNow("w1")) }) })
		s.ctl("node", "promote", "w1").expect(t, ExitNotFound, "Error: node host-w1 was removed meanwhile")
	})
}

func TestInterruptingTheWaitingLeavesTheOperationAlone(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, s *swarm) {
		ctx, cancel := context.WithCancel(t.Context())
		s.after(time.Second, cancel)
		s.with(ctx, "", "node", "promote", "w1").expect(t, ExitInterrupted, "interrupted; the operation goes on in the background, see 'swarmctl node inspect host-w1'")
		if s.nodeNow("w1").Spec.DesiredRole != api.NodeRole_MANAGER {
			t.Error("the promotion was taken back")
		}
	})
}

func TestADemotedManagerIsWaitedForUntilItIsAWorker(t *testing.T) {
	bubble(t, 3, 1, func(t *testing.T, s *swarm) {
		s.after(1*time.Second, func() { s.locked(func() { s.raft.Leader = 2 }) })
		s.after(2*time.Second, func() { s.depart("m1") })
		s.after(3*time.Second, s.becomes("m1", api.NodeRole_WORKER))
		s.ctl("node", "demote", "m1").expect(t, ExitOK, "host-m1: hands over the lead\n", "host-m1: leaves the other managers\n", "host-m1: has left the other managers\n", "host-m1: is a worker\n")
		s.ctl("node", "demote", "w1").expect(t, ExitError, "Error: node host-w1 is already a worker\n")
	})
}

func TestTheNodeWhoseSocketThisIsMayBeDemoted(t *testing.T) {
	bubble(t, 3, 0, func(t *testing.T, s *swarm) {
		s.after(time.Second, func() {
			s.locked(func() {
				s.node.Manager, s.node.Leader = false, false
				s.err = status.Error(codes.FailedPrecondition, "this node is a worker and cannot answer GetNode: ask a manager")
			})
		})
		s.ctl("node", "demote", "m1").expect(t, ExitOK, "host-m1: hands over the lead\n", "host-m1: is a worker\n")
	})
}

func TestAManagerThatIsNeededStays(t *testing.T) {
	bubble(t, 1, 0, func(t *testing.T, s *swarm) {
		s.ctl("node", "demote", "m1").expect(t, ExitError, "Error: attempting to demote the last manager of the swarm")
	})
}

func TestNodesAreListedWithWhatTheyAreAmongTheManagers(t *testing.T) {
	bubble(t, 3, 1, func(t *testing.T, s *swarm) {
		s.locked(func() { s.raft.Members[2].Reachability = api.RaftMemberStatus_UNREACHABLE })
		want := `ID  HOSTNAME  STATUS  AVAILABILITY  ROLE     MANAGER STATUS  ADDRESS
m1  host-m1   Ready   Active        Manager  Leader
m2  host-m2   Ready   Active        Manager  Reachable
m3  host-m3   Ready   Active        Manager  Unreachable
w1  host-w1   Ready   Active        Worker
`
		if r := s.ctl("node", "ls"); r.out != want {
			t.Errorf("got\n%s\nwant\n%s", r.out, want)
		}
	})
}

func TestSeveralNodesAreRemovedAndThoseThatCannotAreNamed(t *testing.T) {
	bubble(t, 3, 2, func(t *testing.T, s *swarm) {
		s.editNode("w1", func(n *api.Node) { n.Status.State = api.NodeStatus_DOWN })
		r := s.ctl("node", "rm", "w1", "w2", "m2")
		if r.status != ExitError || r.out != "w1\n" || strings.Count(r.errs, "Error: ") != 2 {
			t.Errorf("exit status %d, got %q and %q, want w1 removed and two errors", r.status, r.out, r.errs)
		}
		if r := s.ctl("node", "rm", "-f", "w2"); r.status != ExitOK || r.out != "w2\n" {
			t.Errorf("exit status %d, got %q and %q, want w2 removed", r.status, r.out, r.errs)
		}
	})
}
