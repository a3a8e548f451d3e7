package raftserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/model"
	"skep/rpc"
	"skep/store"
)

// members is a raft group in memory, which counts its changes.
type members struct {
	self     uint64
	all      []*api.RaftMember
	removed  []uint64
	learners []uint64
	changes  []string
	// adding runs when a member is being added, added when it is.
	adding, added func()
}

func (g *members) ID() uint64                 { return g.self }
func (g *members) Members() []*api.RaftMember { return slices.Clone(g.all) }
func (g *members) Removed() []uint64          { return slices.Clone(g.removed) }
func (g *members) Learners() []uint64         { return slices.Clone(g.learners) }

func (g *members) AddMember(_ context.Context, m *api.RaftMember) error {
	g.changes = append(g.changes, "add "+m.GetNodeId()+" at "+m.GetAddr())
	if g.adding != nil {
		g.adding()
	}
	g.all = append(g.all, m)
	if g.added != nil {
		g.added()
	}
	return nil
}

func (g *members) UpdateMember(_ context.Context, m *api.RaftMember) error {
	g.changes = append(g.changes, "move "+m.GetNodeId()+" to "+m.GetAddr())
	for i := range g.all {
		if g.all[i].GetRaftId() == m.GetRaftId() {
			g.all[i] = m
		}
	}
	return nil
}

func (g *members) RemoveMember(ctx context.Context, id uint64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, bounded := ctx.Deadline(); g.adding != nil && !bounded {
		return errors.New("nothing bounds the removal")
	}
	g.changes = append(g.changes, fmt.Sprintf("remove %d", id))
	g.all = slices.DeleteFunc(g.all, func(m *api.RaftMember) bool { return m.GetRaftId() == id })
	g.removed = append(g.removed, id)
	return nil
}

func (g *members) TransferLeadership(context.Context, uint64) error {
	g.changes = append(g.changes, "hand over")
	return nil
}

// joinable is a leader m1 (raft id 1) that knows some nodes, and where their managers
// answer, each with its own certificate.
type joinable struct {
	*Membership
	group *members
	// at is where the manager of a node listens.
	at map[string]string
	// health is of the one that wants to join.
	health *Health
}

func newJoinable(t *testing.T) *joinable {
	t.Helper()
	now := time.Now()
	root, key, leader, err := ca.Bootstrap("swarm", "m1", now, ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(root, key)
	if err != nil {
		t.Fatal(err)
	}
	j := &joinable{group: &members{self: 1, all: []*api.RaftMember{{RaftId: 1, NodeId: "m1", Addr: "192.0.2.1:4242"}}}, at: map[string]string{}, health: &Health{}}
	j.health.Set(PartRaft, api.HealthCheckResponse_SERVING)
	s := store.NewLocal(store.Config{})
	node := func(id string, role, desired api.NodeRole, engine string) {
		n := &api.Node{Id: id, Role: role, Spec: &api.NodeSpec{DesiredRole: desired}, Description: &api.NodeDescription{
			Hostname: id, Engine: &api.EngineDescription{EngineVersion: engine, Plugins: []*api.PluginDescription{{Type: "Runtime", Name: "process"}}},
		}}
		if engine != "" {
			n.Description.Engine.Plugins = nil
		}
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.Create(n) }); err != nil {
			t.Fatal(err)
		}
	}
	const worker, manager = api.NodeRole_WORKER, api.NodeRole_MANAGER
	node("m1", manager, manager, "")
	node("m2", manager, manager, "")
	node("m3", manager, manager, "")
	node("demoted", manager, worker, "")
	node("worker", worker, worker, "")
	node("promoted", worker, manager, "")
	node("stock", manager, manager, "27.0")
	for _, id := range []string{"m2", "m3"} {
		k, err := ca.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := k.Request()
		if err != nil {
			t.Fatal(err)
		}
		chain, err := signer.Sign(csr, ca.Subject{NodeID: id, Org: "swarm", Role: manager}, now, ca.DefaultLifetime)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.NewCertificate(root, chain, k)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(grpc.Creds(ca.NewIdentity(root, cert, time.Now).ServerCredentials()))
		api.RegisterHealthServer(server, j.health)
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Stop(); <-served })
		j.at[id] = l.Addr().String()
	}
	identity := ca.NewIdentity(root, leader, time.Now)
	j.Membership = &Membership{Group: j.group, Store: s, Dial: func(addr string) (*grpc.ClientConn, error) {
		return client.Dial(addr, identity.ClientCredentials(ca.ManagerOU))
	}}
	return j
}

// join asks as a node that calls from 127.0.0.1, and says that it is of ours.
func (j *joinable) join(t *testing.T, node, addr string) (*api.JoinResponse, error) {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(ca.VersionMetadata, "test"))
	return j.Join(rpc.WithCaller(ctx, rpc.Identity{NodeID: node, Addr: "127.0.0.1:40000"}), &api.JoinRequest{Addr: addr})
}

// refused checks the kind and the text of an error, and that the group is as it was.
func (j *joinable) refused(t *testing.T, err error, kind model.Kind, says string) {
	t.Helper()
	if model.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("got %v, want kind %v and %q", err, kind, says)
	}
	if len(j.group.changes) > 0 {
		t.Errorf("the group was changed: %v", j.group.changes)
	}
}

func TestWhoMayNotJoinIsToldWhyAndChangesNothing(t *testing.T) {
	t.Parallel()
	j := newJoinable(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("a request that is wrong by itself", func(t *testing.T) {
		for name, test := range map[string]struct {
			node, addr string
			kind       model.Kind
			says       string
		}{
			"without a certificate":                   {"", j.at["m2"], model.Denied, "the caller shows no certificate"},
			"a worker":                                {"worker", j.at["m2"], model.Denied, "node worker is a worker: it cannot join the managers; promote it first"},
			"a node that is being promoted":           {"promoted", j.at["m2"], model.Denied, "node promoted is a worker"},
			"a manager that is being demoted":         {"demoted", j.at["m2"], model.Denied, "node demoted is being demoted: it cannot join the managers; promote it first"},
			"a node that was removed":                 {"removed", j.at["m2"], model.Denied, "node removed is not part of this swarm, or was removed from it; to come back, let it leave and join again with a token"},
			"at no address":                           {"m2", "", model.Invalid, "this is no host:port; set --advertise-remote-api"},
			"at a host without a port":                {"m2", "192.0.2.7", model.Invalid, "this is no host:port"},
			"at port 0":                               {"m2", "192.0.2.7:0", model.Invalid, "its port is no number from 1 to 65535"},
			"at a named port":                         {"m2", "192.0.2.7:http", model.Invalid, "its port is no number from 1 to 65535"},
			"at a host that is none":                  {"m2", strings.Repeat("h", 254) + ":4242", model.Invalid, "a host name of 254 characters is none"},
			"where nobody answers":                    {"m2", gone, model.Precondition, "connection refused\"; give it an --advertise-remote-api at which the others reach it, and let the firewall pass that port"},
			"at another manager's address":            {"m2", j.at["m3"], model.Precondition, `finds node "m3", not node m2 that wants to join: the address belongs to another; set --advertise-remote-api`},
			"at another's address, by an empty host":  {"m2", ":" + port(t, j.at["m3"]), model.Precondition, `finds node "m3", not node m2`},
			"at the port of nobody, by an empty host": {"m2", ":" + port(t, gone), model.Precondition, "cannot reach the new one at 127.0.0.1:" + port(t, gone)},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				_, err := j.join(t, test.node, test.addr)
				j.refused(t, err, test.kind, test.says)
			})
		}
	})
	t.Run("without saying where it calls from", func(t *testing.T) {
		_, err := j.Join(rpc.WithCaller(t.Context(), rpc.Identity{NodeID: "m2"}), &api.JoinRequest{Addr: "0.0.0.0:4242"})
		j.refused(t, err, model.Invalid, "nobody can reach that host, and where the call comes from is not known")
	})
	t.Run("a stock engine", func(t *testing.T) {
		_, err := j.Join(rpc.WithCaller(t.Context(), rpc.Identity{NodeID: "stock", Addr: "127.0.0.1:1"}), &api.JoinRequest{Addr: j.at["m2"]})
		j.refused(t, err, model.Precondition, "node stock runs a stock engine")
	})
	t.Run("before its raft takes messages", func(t *testing.T) {
		j.health.Set(PartRaft, api.HealthCheckResponse_NOT_SERVING)
		defer j.health.Set(PartRaft, api.HealthCheckResponse_SERVING)
		_, err := j.join(t, "m2", j.at["m2"])
		j.refused(t, err, model.Unavailable, "is not ready for raft yet (NOT_SERVING): try again")
	})
	// None of that is held against the node.
	if _, err := j.join(t, "m2", j.at["m2"]); err != nil {
		t.Errorf("the right request: %v", err)
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Fault 49: whoever has no answer asks again, and is one member.
func TestAJoinThatIsRepeatedIsOneMember(t *testing.T) {
	t.Parallel()
	j := newJoinable(t)
	first, err := j.join(t, "m2", j.at["m2"])
	if err != nil {
		t.Fatal(err)
	}
	again, err := j.join(t, "m2", j.at["m2"])
	if err != nil || again.GetRaftId() != first.GetRaftId() || first.GetRaftId() == 0 {
		t.Errorf("asked twice it is member %d and %d: %v", first.GetRaftId(), again.GetRaftId(), err)
	}
	if want := []string{"add m2 at " + j.at["m2"]}; !slices.Equal(j.group.changes, want) {
		t.Errorf("the group's changes are %v, want %v", j.group.changes, want)
	}
	if len(again.GetMembers()) != 2 {
		t.Errorf("it is told of %v, want both members", again.GetMembers())
	}
}

// The contract: a manager that does not know its address leaves the host out, or says that it is
// unspecified, and the leader takes the one that it calls from.
func TestTheLeaderFillsInAHostThatIsNotSpecified(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "0.0.0.0", "::"} {
		j := newJoinable(t)
		r, err := j.join(t, "m2", net.JoinHostPort(host, port(t, j.at["m2"])))
		if err != nil {
			t.Fatalf("host %q: %v", host, err)
		}
		if got := r.GetMembers()[1].GetAddr(); got != j.at["m2"] {
			t.Errorf("host %q: it is a member at %s, want %s", host, got, j.at["m2"])
		}
	}
}

func TestAMemberThatJoinsFromElsewhereIsMoved(t *testing.T) {
	t.Parallel()
	j := newJoinable(t)
	j.group.all = append(j.group.all, &api.RaftMember{RaftId: 2, NodeId: "m2", Addr: "192.0.2.2:4242"})
	r, err := j.join(t, "m2", j.at["m2"])
	if err != nil || r.GetRaftId() != 2 {
		t.Fatalf("it is member %d, want 2: %v", r.GetRaftId(), err)
	}
	if want := []string{"move m2 to " + j.at["m2"]}; !slices.Equal(j.group.changes, want) {
		t.Errorf("the group's changes are %v, want %v", j.group.changes, want)
	}
	// An address is of one member: who is there already keeps it.
	j = newJoinable(t)
	j.group.all = append(j.group.all, &api.RaftMember{RaftId: 3, NodeId: "m3", Addr: j.at["m2"]})
	_, err = j.join(t, "m2", j.at["m2"])
	j.refused(t, err, model.Precondition, "node m3 is a manager at this address already; remove that node if it is gone, or set another --advertise-remote-api")
}

func TestWhoIsDemotedOrRemovedWhileItJoinsIsTakenOutAgain(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*store.Tx) error{
		"demoted": func(tx *store.Tx) error {
			n, _ := tx.Nodes.Get("m2")
			demoted := model.Shallow(n)
			demoted.Spec = &api.NodeSpec{DesiredRole: api.NodeRole_WORKER}
			return tx.Update(demoted)
		},
		"removed": func(tx *store.Tx) error { return tx.Delete(&api.Node{Id: "m2"}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJoinable(t)
			j.NewRaftID = func() uint64 { return 9 }
			j.group.adding = func() {
				if err := j.Store.Update(t.Context(), change); err != nil {
					t.Error(err)
				}
			}
			// Who asked does not wait any more when the node has become a member.
			ctx, gone := context.WithCancel(rpc.WithCaller(t.Context(), rpc.Identity{NodeID: "m2"}))
			defer gone()
			j.group.added = gone
			if _, err := j.Join(ctx, &api.JoinRequest{Addr: j.at["m2"]}); model.KindOf(err) != model.Denied {
				t.Errorf("got %v, want Denied", err)
			}
			if want := []string{"add m2 at " + j.at["m2"], "remove 9"}; !slices.Equal(j.group.changes, want) {
				t.Errorf("the group's changes are %v, want %v", j.group.changes, want)
			}
		})
	}
}

func TestWhoMayLeaveTheGroup(t *testing.T) {
	t.Parallel()
	away := &api.RaftMemberStatus{Reachability: api.RaftMemberStatus_UNREACHABLE}
	two := []*api.RaftMember{{RaftId: 1, NodeId: "m1"}, {RaftId: 2, NodeId: "m2"}}
	three := append(slices.Clone(two), &api.RaftMember{RaftId: 3, NodeId: "m3"})
	for name, test := range map[string]struct {
		group   []*api.RaftMember
		caller  rpc.Identity
		leaving *api.RaftMember
		kind    model.Kind // 0: it may
		says    string
		changes []string
	}{
		"nobody is named":              {two, rpc.Identity{NodeID: "m2"}, nil, model.Invalid, "it is not said who", nil},
		"without a certificate":        {two, rpc.Identity{}, &api.RaftMember{RaftId: 2}, model.Denied, "a manager leaves for itself only; to take another out, demote it", nil},
		"a worker for a manager":       {two, rpc.Identity{NodeID: "worker"}, &api.RaftMember{RaftId: 2}, model.Denied, "a manager leaves for itself only", nil},
		"a manager for another":        {two, rpc.Identity{NodeID: "m2"}, &api.RaftMember{RaftId: 1}, model.Denied, "raft member 1 is another node", nil},
		"a member that never was":      {two, rpc.Identity{NodeID: "m2"}, &api.RaftMember{RaftId: 77}, model.NotFound, "it never was one", nil},
		"one that has left":            {two, rpc.Identity{NodeID: "m2"}, &api.RaftMember{RaftId: 5}, 0, "", nil},
		"the second of two":            {two, rpc.Identity{NodeID: "m2"}, &api.RaftMember{RaftId: 2}, 0, "", []string{"remove 2"}},
		"one of three":                 {three, rpc.Identity{NodeID: "m3"}, &api.RaftMember{RaftId: 3}, 0, "", []string{"remove 3"}},
		"the leader, which hands over": {two, rpc.Identity{NodeID: "m1", Local: true}, &api.RaftMember{RaftId: 1}, model.Unavailable, "has handed over: ask again", []string{"hand over"}},
		"the last": {
			two[:1], rpc.Identity{NodeID: "m1", Local: true}, &api.RaftMember{RaftId: 1}, model.Precondition,
			"this is the last manager, without which nobody would lead the swarm: promote another node first", nil,
		},
		"one whose leaving leaves one of two reachable": {
			[]*api.RaftMember{three[0], three[1], {RaftId: 3, NodeId: "m3", Status: away}}, rpc.Identity{NodeID: "m2"}, &api.RaftMember{RaftId: 2},
			model.Precondition, "without this manager 1 of 2 would be reachable", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &members{self: 1, all: slices.Clone(test.group), removed: []uint64{5}}
			s := &Membership{Group: g}
			_, err := s.Leave(rpc.WithCaller(t.Context(), test.caller), &api.LeaveRequest{Node: test.leaving})
			switch {
			case test.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.says != "" && (model.KindOf(err) != test.kind || !strings.Contains(fmt.Sprint(err), test.says)):
				t.Errorf("got %v, want kind %v and %q", err, test.kind, test.says)
			}
			if !slices.Equal(g.changes, test.changes) {
				t.Errorf("the group's changes are %v, want %v", g.changes, test.changes)
			}
		})
	}
}

func TestMembersThatDoNotVoteAreNotCountedWhenOneLeaves(t *testing.T) {
	t.Parallel()
	away := &api.RaftMemberStatus{Reachability: api.RaftMemberStatus_UNREACHABLE}
	for name, test := range map[string]struct {
		away, learners []uint64
		leaves         uint64
		says           string // "": it may
	}{
		"a learner, while other learners are away":             {[]uint64{3, 4}, []uint64{2, 3, 4}, 2, ""},
		"a voter that only a learner could stand in for":       {[]uint64{3}, []uint64{4}, 2, "without this manager 1 of 2 would be reachable"},
		"a voter of three, while a learner is away":            {[]uint64{4}, []uint64{4}, 2, ""},
		"a voter of two, while two learners are away":          {[]uint64{3, 4}, []uint64{3, 4}, 2, ""},
		"the only voter, while there are reachable learners":   {nil, []uint64{2, 3, 4}, 1, "this is the last manager, without which"},
		"the leader, which has only a learner to hand over to": {[]uint64{2, 3}, []uint64{4}, 1, "without this manager 0 of 2 would be reachable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &members{self: 1, learners: test.learners}
			for id := range uint64(4) {
				m := &api.RaftMember{RaftId: id + 1, NodeId: fmt.Sprintf("m%d", id+1)}
				if slices.Contains(test.away, id+1) {
					m.Status = away
				}
				g.all = append(g.all, m)
			}
			_, err := (&Membership{Group: g}).Leave(rpc.WithCaller(t.Context(), rpc.Identity{NodeID: fmt.Sprintf("m%d", test.leaves)}), &api.LeaveRequest{Node: &api.RaftMember{RaftId: test.leaves}})
			switch {
			case test.says == "" && (err != nil || !slices.Equal(g.changes, []string{fmt.Sprintf("remove %d", test.leaves)})):
				t.Errorf("the group's changes are %v, and it says %v; want it removed", g.changes, err)
			case test.says != "" && (model.KindOf(err) != model.Precondition || !strings.Contains(fmt.Sprint(err), test.says) || len(g.changes) > 0):
				t.Errorf("the group's changes are %v, and it says %v; want Precondition and %q", g.changes, err, test.says)
			}
		})
	}
}

// A raft id is used once, also when chance gives the same number again.
func TestARaftIDThatWasUsedIsNotGivenAgain(t *testing.T) {
	t.Parallel()
	j := newJoinable(t)
	j.group.removed = []uint64{5}
	ids := []uint64{0, 1, 5, 6}
	j.NewRaftID = func() uint64 {
		id := ids[0]
		ids = ids[1:]
		return id
	}
	if r, err := j.join(t, "m2", j.at["m2"]); err != nil || r.GetRaftId() != 6 {
		t.Errorf("got member %d, want 6: %v", r.GetRaftId(), err)
	}
}
