package rotator_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"skep/api"
	"skep/control/rotator"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// Each file is a story of the managers of one swarm. The first of them leads.
//
//	managers NAME…   nodes that are managers, and members of raft
//	workers NAME…    nodes that are workers
//	promote NAME…    their desired role is manager
//	demote NAME…     their desired role is worker
//	remove NAME…     their objects are removed
//	join NAME…       they are added to raft, as Join does
//	learners NAME…   nodes that are managers, and members of raft that do not vote
//	cut NAME…        they are not reached any more; if the leader is not, another leads
//	mend NAME…       they are reached again
//	lead NAME        it leads
//	wait 1s          time passes
//
// Each prints how many writes it took (its own is one for each name), what raft did, and the nodes.
func TestHowRolesChange(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/roles", func(t *testing.T, path string) {
		synctest.Test(t, func(t *testing.T) {
			s := newSwarm(t)
			defer s.stop()
			datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string {
				var args []string
				for _, a := range d.CmdArgs {
					args = append(args, a.Key)
				}
				before := s.store.Read().Version()
				s.do(d.Cmd, args)
				s.settle()
				return fmt.Sprintf("writes: %d\n", s.store.Read().Version()-before) + s.show()
			})
		})
	})
}

// Role in the store is membership of raft when all is quiet, and nothing that the rotator does
// leaves a group that cannot agree on anything.
func TestNoStormOfPromotionsDemotionsAndRemovalsBreaksTheGroup(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			s := newSwarm(t)
			defer s.stop()
			storm(s, rand.New(rand.NewPCG(seed, 33)))
			if t.Failed() {
				t.Logf("seed %d:\n%s", seed, strings.Join(s.story, "\n"))
			}
		})
	}
}

func storm(s *swarm, r *rand.Rand) {
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	s.do("managers", names[:1+r.IntN(5)])
	for _, name := range names {
		if _, ok := s.store.Read().Nodes.Get(name); !ok {
			s.do("workers", []string{name})
		}
	}
	for range 40 {
		name := names[r.IntN(len(names))]
		_, exists := s.store.Read().Nodes.Get(name)
		switch op := r.IntN(12); {
		case op < 3 && exists:
			s.do("promote", []string{name})
		case op < 6 && exists && s.others(name):
			s.do("demote", []string{name})
		case op == 6 && exists && s.others(name):
			s.do("remove", []string{name})
		case op == 7 && !exists:
			s.do("workers", []string{name})
		case op == 8:
			s.do("cut", []string{name})
		case op == 9:
			s.do("mend", []string{name})
		case op == 10:
			s.do("lead", []string{name})
		default:
			s.do("wait", []string{[]string{"0s", "100ms", "6s"}[r.IntN(3)]})
		}
		s.joinAll()
	}
	s.do("mend", names)
	for range 4 { // an effect that failed may wait half a minute
		s.do("wait", []string{"40s"})
		s.joinAll()
	}
	members := s.raft.ids()
	for n := range s.store.Read().Nodes.All() {
		if manager := n.GetRole() == api.NodeRole_MANAGER; n.GetRole() != n.GetSpec().GetDesiredRole() || manager != slices.Contains(members, n.GetId()) {
			s.t.Errorf("node %s is %v and is to be %v; raft has %v", n.GetId(), n.GetRole(), n.GetSpec().GetDesiredRole(), members)
		}
	}
	for _, id := range members {
		if _, ok := s.store.Read().Nodes.Get(id); !ok {
			s.t.Errorf("node %s was removed and is in raft", id)
		}
	}
	for n := range s.store.Read().Nodes.All() {
		if n.GetStatus().GetMessage() != "" {
			s.t.Errorf("node %s says %q though nothing waits", n.GetId(), n.GetStatus().GetMessage())
		}
	}
}

// swarm is a store with a runner on whichever manager leads.
type swarm struct {
	t     *testing.T
	store *store.Store
	raft  *fakeGroup
	story []string
	// leads is who the runner runs for, "" if nobody; end stops it.
	leads string
	end   func()
}

func newSwarm(t *testing.T) *swarm {
	return &swarm{
		t:     t,
		store: store.NewLocal(store.Config{Now: time.Now, Freeze: true}),
		raft:  &fakeGroup{changed: make(chan struct{}), cut: map[string]bool{}, learns: map[string]bool{}, broke: t.Errorf},
		end:   func() {},
	}
}

func (s *swarm) do(command string, args []string) {
	s.t.Helper()
	s.story = append(s.story, command+" "+strings.Join(args, " "))
	for _, arg := range args {
		switch command {
		case "managers":
			s.create(arg, api.NodeRole_MANAGER)
			s.raft.add(arg)
		case "learners":
			s.create(arg, api.NodeRole_MANAGER)
			s.raft.learn(arg)
		case "workers":
			s.create(arg, api.NodeRole_WORKER)
		case "promote":
			s.want(arg, api.NodeRole_MANAGER)
		case "demote":
			s.want(arg, api.NodeRole_WORKER)
		case "remove":
			s.write(func(tx *store.Tx) error { n, _ := tx.Nodes.Get(arg); return tx.Delete(n) })
		case "join":
			s.raft.add(arg)
		case "cut":
			s.raft.reach(arg, false)
		case "mend":
			s.raft.reach(arg, true)
		case "lead":
			s.raft.lead(arg)
		case "wait":
			d, err := time.ParseDuration(arg)
			if err != nil {
				s.t.Fatal(err)
			}
			s.settle()
			<-time.After(d)
		default:
			s.t.Fatalf("there is no command %q", command)
		}
	}
	s.settle()
}

func (s *swarm) write(f func(tx *store.Tx) error) {
	s.t.Helper()
	if err := s.store.Update(s.t.Context(), f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *swarm) create(id string, role api.NodeRole) {
	s.write(func(tx *store.Tx) error {
		return tx.Create(&api.Node{Id: id, Role: role, Spec: &api.NodeSpec{DesiredRole: role}})
	})
}

func (s *swarm) want(id string, role api.NodeRole) {
	s.write(func(tx *store.Tx) error {
		n, ok := tx.Nodes.Get(id)
		if !ok {
			return fmt.Errorf("there is no node %s", id)
		}
		n = model.Shallow(n)
		n.Spec = model.Shallow(n.Spec)
		n.Spec.DesiredRole = role
		return tx.Update(n)
	})
}

// others reports whether another member is to stay a manager: the control API lets nobody demote
// or remove the last one.
func (s *swarm) others(name string) bool {
	return slices.ContainsFunc(s.raft.ids(), func(id string) bool {
		n, ok := s.store.Read().Nodes.Get(id)
		return ok && id != name && n.GetSpec().GetDesiredRole() == api.NodeRole_MANAGER
	})
}

// joinAll lets the nodes join that were made managers, as their daemons do.
func (s *swarm) joinAll() {
	for n := range s.store.Read().Nodes.All() {
		if n.GetRole() == api.NodeRole_MANAGER && n.GetSpec().GetDesiredRole() == api.NodeRole_MANAGER &&
			!slices.Contains(s.raft.ids(), n.GetId()) && s.raft.mayJoin(n.GetId()) {
			s.do("join", []string{n.GetId()})
		}
	}
}

// settle runs the loop where the leader is, until nothing happens any more.
func (s *swarm) settle() {
	for {
		synctest.Wait()
		leader := s.raft.leader()
		if leader == s.leads {
			return
		}
		s.stop()
		if s.leads = leader; leader == "" {
			continue
		}
		runner := loop.NewRunner(loop.Config{
			Store: s.store,
			Loops: []loop.Any{rotator.Roles{Raft: memberOf{s.raft, leader}}.Loop()},
			Rand:  rand.New(rand.NewPCG(1, 1)),
		})
		ctx, cancel := context.WithCancel(s.t.Context())
		ended := make(chan error, 1)
		go func() { ended <- runner.Run(ctx) }()
		s.end = func() {
			cancel()
			if err := <-ended; err != nil {
				s.t.Errorf("the runner of %s ended with %v", leader, err)
			}
		}
	}
}

func (s *swarm) stop() {
	s.end()
	s.end, s.leads = func() {}, ""
}

func (s *swarm) show() string {
	var out strings.Builder
	for _, line := range s.raft.tell() {
		fmt.Fprintf(&out, "raft: %s\n", line)
	}
	members := s.raft.ids()
	for _, n := range slices.SortedFunc(s.store.Read().Nodes.All(), func(a, b *api.Node) int { return strings.Compare(a.GetId(), b.GetId()) }) {
		fmt.Fprintf(&out, "%s %s", n.GetId(), strings.ToLower(n.GetRole().String()))
		if want := n.GetSpec().GetDesiredRole(); want != n.GetRole() {
			fmt.Fprintf(&out, ", is to be %s", strings.ToLower(want.String()))
		}
		if i := slices.Index(members, n.GetId()); i >= 0 {
			members = slices.Delete(members, i, i+1)
			out.WriteString(", member")
		}
		if s.raft.leader() == n.GetId() {
			out.WriteString(", leads")
		}
		if why := n.GetStatus().GetMessage(); why != "" {
			out.WriteString(": " + why)
		}
		out.WriteString("\n")
	}
	for _, id := range members {
		fmt.Fprintf(&out, "%s is no node, member\n", id)
	}
	return out.String()
}

// fakeGroup is a raft group as its members see it: it changes one member at a time, with a
// majority that can be reached.
type fakeGroup struct {
	broke func(format string, args ...any)

	mu      sync.Mutex
	members []string // the learners are among them
	learns  map[string]bool
	first   string
	cut     map[string]bool
	told    []string
	changed chan struct{}
}

func (g *fakeGroup) ids() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.members)
}

func (g *fakeGroup) leader() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.first
}

// tell returns what happened since it was last called.
func (g *fakeGroup) tell() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	told := g.told
	g.told = nil
	return told
}

// change changes the group and elects a leader if the one it has cannot go on.
func (g *fakeGroup) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	fit := func(id string) bool { return slices.Contains(g.members, id) && !g.cut[id] && !g.learns[id] }
	if !g.majority(g.members) {
		g.first = ""
	} else if !fit(g.first) {
		g.first = g.members[slices.IndexFunc(g.members, fit)]
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// majority reports whether members can agree on anything: those of them that vote.
func (g *fakeGroup) majority(members []string) bool {
	reached, voters := 0, 0
	for _, id := range members {
		if g.learns[id] {
			continue
		}
		voters++
		if !g.cut[id] {
			reached++
		}
	}
	return reached > voters/2
}

func (g *fakeGroup) learn(id string) {
	g.change(func() {
		g.members = append(g.members, id)
		g.learns[id] = true
	})
}

func (g *fakeGroup) add(id string) {
	g.change(func() {
		if !slices.Contains(g.members, id) {
			g.members = append(g.members, id)
			delete(g.learns, id)
		}
	})
}

func (g *fakeGroup) reach(id string, reached bool) { g.change(func() { g.cut[id] = !reached }) }

func (g *fakeGroup) lead(id string) {
	g.change(func() {
		if slices.Contains(g.members, id) && !g.cut[id] && !g.learns[id] {
			g.first = id
		}
	})
}

func (g *fakeGroup) mayJoin(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.first != "" && !g.cut[id]
}

// memberOf is the group as one member that leads it sees it.
type memberOf struct {
	group *fakeGroup
	id    string
}

func raftID(node string) uint64 { return uint64(node[0]) }

func (m memberOf) ID() uint64 { return raftID(m.id) }

func (m memberOf) Members() []*api.RaftMember {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	var members []*api.RaftMember
	for _, id := range m.group.members {
		reached := api.RaftMemberStatus_REACHABLE
		if m.group.cut[id] {
			reached = api.RaftMemberStatus_UNREACHABLE
		}
		members = append(members, &api.RaftMember{RaftId: raftID(id), NodeId: id, Status: &api.RaftMemberStatus{Reachability: reached}})
	}
	return members
}

func (m memberOf) Learners() []uint64 {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	var ids []uint64
	for id := range m.group.learns {
		ids = append(ids, raftID(id))
	}
	return ids
}

func (m memberOf) Changed() <-chan struct{} {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	return m.group.changed
}

func (m memberOf) RemoveMember(ctx context.Context, id uint64) error {
	for {
		changed, done, err := m.remove(id)
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return model.Errorf(model.Unavailable, "nothing is agreed on: %w", context.Cause(ctx))
		}
	}
}

// remove takes a member out if the group can agree on that now.
func (m memberOf) remove(id uint64) (changed <-chan struct{}, done bool, err error) {
	g := m.group
	g.mu.Lock()
	left := slices.DeleteFunc(slices.Clone(g.members), func(node string) bool { return raftID(node) == id })
	changed, agreed := g.changed, g.first == m.id && g.majority(g.members)
	held := g.majority(left)
	if !held {
		g.broke("it asks to remove %c of %v without %v", rune(id), g.members, g.cut)
	}
	g.mu.Unlock()
	switch {
	case !held:
		return nil, false, model.Errorf(model.Precondition, "too few would be left")
	case agreed:
		g.change(func() {
			g.members = left
			g.told = append(g.told, fmt.Sprintf("%s removes %c", m.id, rune(id)))
		})
	}
	return changed, agreed, nil
}

func (m memberOf) TransferLeadership(_ context.Context, _ uint64) error {
	var err error
	m.group.change(func() {
		g := m.group
		i := slices.IndexFunc(g.members, func(id string) bool { return id != m.id && !g.cut[id] && !g.learns[id] })
		if i < 0 {
			err = model.Errorf(model.Precondition, "nobody is there to take over")
			return
		}
		g.first = g.members[i]
		g.told = append(g.told, fmt.Sprintf("%s hands over to %s", m.id, g.first))
	})
	return err
}
