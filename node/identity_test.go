package node_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/client"
	"skep/internal/logtest"
	"skep/node"
	"skep/vfs"
)

const day = 24 * time.Hour

// member is a node that can be stopped and started again, with another clock.
type member struct {
	cfg     node.Config
	log     *logtest.Buffer
	shift   *atomic.Int64 // of its clock
	control api.ControlClient
	insight skep.InsightClient
	stop    func()
	running bool
}

// newMember returns a node that listens on a port of its own and does not run yet.
func newMember(t *testing.T, name string) *member {
	t.Helper()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{cfg: machine(t), log: &logtest.Buffer{}, shift: &atomic.Int64{}}
	m.cfg.Listen, m.cfg.Hostname, m.cfg.Version = port.Addr().String(), name, "test"
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	m.cfg.Log = slog.New(slog.NewTextHandler(m.log, nil))
	m.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(m.shift.Load())) }
	t.Cleanup(func() {
		if m.running {
			m.stop()
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, m.log)
		}
	})
	return m
}

// start runs the node until stop or the test's end. It does not wait for anything.
func (m *member) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, m.cfg) }()
	conn, err := client.DialSocket(m.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	m.control, m.insight, m.running = api.NewControlClient(conn), skep.NewInsightClient(conn), true
	m.stop = func() {
		m.running = false
		_ = conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("node %s ends with %v", m.cfg.Hostname, err)
		}
	}
}

// join makes the node one that joins another's swarm.
func (m *member) join(t *testing.T, other *member, role api.NodeRole) {
	t.Helper()
	tokens := other.cluster(t).GetRootCa().GetJoinTokens()
	m.cfg.JoinAddr, m.cfg.JoinToken = other.cfg.Listen, tokens.GetWorker()
	if role == api.NodeRole_MANAGER {
		m.cfg.JoinToken = tokens.GetManager()
	}
	m.start(t)
}

func (m *member) cluster(t *testing.T) *api.Cluster {
	t.Helper()
	var c *api.Cluster
	await(t, "the cluster can be read", func() bool {
		answer, err := m.control.ListClusters(t.Context(), &api.ListClustersRequest{})
		if err != nil || len(answer.GetClusters()) != 1 {
			return false
		}
		c = answer.GetClusters()[0]
		return true
	})
	return c
}

// ready waits until the swarm has so many nodes that are READY, as m sees it.
func (m *member) ready(t *testing.T, n int) []*api.Node {
	t.Helper()
	var nodes []*api.Node
	await(t, fmt.Sprint(n, " nodes are ready"), func() bool {
		answer, err := m.control.ListNodes(t.Context(), &api.ListNodesRequest{})
		if err != nil {
			return false
		}
		nodes = nodes[:0]
		for _, n := range answer.GetNodes() {
			if n.GetStatus().GetState() == api.NodeStatus_READY {
				nodes = append(nodes, n)
			}
		}
		return len(nodes) == n
	})
	return nodes
}

// state waits until the node called name is in a state.
func (m *member) state(t *testing.T, name string, want api.NodeStatus_State) *api.Node {
	t.Helper()
	var found *api.Node
	await(t, name+" is "+want.String(), func() bool {
		answer, err := m.control.ListNodes(t.Context(), &api.ListNodesRequest{})
		if err != nil {
			return false
		}
		for _, n := range answer.GetNodes() {
			if n.GetDescription().GetHostname() == name && n.GetStatus().GetState() == want {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// voters waits until so many managers vote, and are there.
func (m *member) voters(t *testing.T, n uint32) {
	t.Helper()
	await(t, fmt.Sprint(n, " managers vote"), func() bool {
		h, err := m.insight.ClusterHealth(t.Context(), &skep.ClusterHealthRequest{})
		return err == nil && h.GetVoters() == n && h.GetCanLose() == (n-1)/2
	})
}

// update changes the cluster, again and again while others do.
func (m *member) update(t *testing.T, change func(*api.ClusterSpec), rotation *api.KeyRotation) {
	t.Helper()
	await(t, "the cluster is updated", func() bool {
		c := m.cluster(t)
		spec := proto.CloneOf(c.GetSpec())
		change(spec)
		_, err := m.control.UpdateCluster(t.Context(), &api.UpdateClusterRequest{ClusterId: c.GetId(), ClusterVersion: c.GetMeta().GetVersion(), Spec: spec, Rotation: rotation})
		return err == nil
	})
}

// rotate replaces the root and waits until that is done.
func (m *member) rotate(t *testing.T) *api.RootCA {
	t.Helper()
	was := m.cluster(t).GetRootCa().GetCaCertHash()
	m.update(t, func(s *api.ClusterSpec) { s.CaConfig.ForceRotate++ }, nil)
	var is *api.RootCA
	await(t, "the root is another", func() bool {
		is = m.cluster(t).GetRootCa()
		return is.GetRootRotation() == nil && is.GetCaCertHash() != was
	})
	return is
}

func (m *member) files() *ca.Files {
	return ca.NewFiles(vfs.OS(), filepath.Join(m.cfg.StateDir, "certificates"))
}

// renewed waits until the node keeps a certificate that lasts.
func (m *member) renewed(t *testing.T) {
	t.Helper()
	await(t, m.cfg.Hostname+" has a certificate that lasts", func() bool {
		_, cert, err := m.files().Load(m.cfg.Now())
		return err == nil && cert.Valid(m.cfg.Now().Add(80*day)) == nil
	})
}

func (m *member) says(text string) func() bool {
	return func() bool { return strings.Contains(m.log.String(), text) }
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.After(60 * time.Second); !is(); {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// swarm is a manager and a worker that run.
func swarm(t *testing.T) (manager, worker *member) {
	t.Helper()
	manager, worker = newMember(t, "manager"), newMember(t, "worker")
	manager.start(t)
	manager.ready(t, 1)
	manager.update(t, func(s *api.ClusterSpec) { s.Dispatcher.HeartbeatPeriod.Seconds = 1 }, nil)
	worker.join(t, manager, api.NodeRole_WORKER)
	manager.ready(t, 2)
	return manager, worker
}

// Fault 22: both were down for a hundred days, and their certificates ended ten days
// ago. The manager, alone, lets itself in, and the worker in turn.
func TestNodesWhoseCertificatesExpiredWhileTheyWereDownComeBack(t *testing.T) {
	t.Parallel()
	manager, worker := swarm(t)
	id := manager.state(t, "worker", api.NodeStatus_READY).GetId()
	worker.stop()
	manager.stop()
	for _, m := range []*member{manager, worker} {
		m.shift.Store(int64(100 * day))
		m.start(t)
	}
	for _, m := range []*member{manager, worker} {
		m.renewed(t)
	}
	manager.ready(t, 2)
	if is := manager.state(t, "worker", api.NodeStatus_READY).GetId(); is != id {
		t.Errorf("the worker came back as node %s, it was %s", is, id)
	}
}

// Fault 22: all three managers were down for too long. None can show the others a
// certificate that they would take, and still they find each other.
func TestManagersWhoseCertificatesAllExpiredFindEachOther(t *testing.T) {
	t.Parallel()
	managers := []*member{newMember(t, "one"), newMember(t, "two"), newMember(t, "three")}
	managers[0].start(t)
	managers[0].ready(t, 1)
	for i, m := range managers[1:] {
		m.join(t, managers[0], api.NodeRole_MANAGER)
		managers[0].ready(t, i+2)
	}
	managers[0].voters(t, 3)
	for _, m := range managers {
		m.stop()
	}
	for _, m := range managers {
		m.shift.Store(int64(150 * day))
		m.start(t)
	}
	for _, m := range managers {
		m.renewed(t)
	}
	managers[0].ready(t, 3)
}

// Fault 22: a node keeps its certificate of the new root and goes down before it has
// heard that this is the swarm's root now. When it is back the managers' certificates
// lead to the new root only.
func TestANodeThatWasDownWhenTheRootChangedFollows(t *testing.T) {
	t.Parallel()
	manager, worker := swarm(t)
	old, _, err := worker.files().Load(worker.cfg.Now())
	if err != nil {
		t.Fatal(err)
	}
	root := manager.rotate(t)
	await(t, "the worker trusts the new root", worker.says("trusts the swarm's new root"))
	worker.stop()
	if err := os.WriteFile(filepath.Join(worker.cfg.StateDir, "certificates", "swarm-root-ca.crt"), old.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if trusted, _, err := worker.files().Load(worker.cfg.Now()); err != nil || trusted.Digest() != old.Digest() {
		t.Fatalf("the worker does not trust the old root again: %v", err)
	}

	// The manager renews, and its new certificate needs no way to the old root any more.
	manager.stop()
	manager.shift.Store(int64(80 * day))
	manager.start(t)
	await(t, "the manager has renewed", func() bool {
		_, cert, err := manager.files().Load(manager.cfg.Now())
		return err == nil && strings.Count(string(cert.PEM()), "BEGIN") == 1
	})
	worker.shift.Store(int64(80 * day))
	worker.start(t)
	await(t, "the worker trusts the new root", func() bool {
		trusted, _, err := worker.files().Load(worker.cfg.Now())
		return err == nil && ca.HashOf(trusted.PEM()) == root.GetCaCertHash()
	})
	worker.renewed(t)
	manager.ready(t, 2)
}

// Fault 21: a clock that is wrong by ten years is named, costs nobody a certificate,
// and is forgotten when it is right again.
func TestAWrongClockIsNamedAndForgotten(t *testing.T) {
	t.Parallel()
	manager, worker := swarm(t)
	second := newMember(t, "second")
	second.join(t, manager, api.NodeRole_MANAGER)
	third := newMember(t, "third")
	third.join(t, manager, api.NodeRole_MANAGER)
	manager.ready(t, 4)
	manager.voters(t, 3)
	for _, m := range []*member{worker, second} {
		m.stop()
		before := contents(t, filepath.Join(m.cfg.StateDir, "certificates"))
		m.shift.Store(int64(10 * 365 * day))
		m.start(t)
		await(t, "the log names the clock", func() bool {
			return m.says("the clock of this machine says")() && m.says("expired at")() && m.says("was not renewed")()
		})
		if m == second {
			await(t, "the manager has tried all ways", m.says("it has issued itself one"))
		}
		if after := contents(t, filepath.Join(m.cfg.StateDir, "certificates")); after != before {
			t.Errorf("%s has other certificates:\n%s\nthan\n%s", m.cfg.Hostname, after, before)
		}
		// The others do not notice more than its absence.
		manager.update(t, func(s *api.ClusterSpec) { s.TaskDefaults = &api.TaskDefaults{} }, nil)
		m.shift.Store(0)
		if m == second { // it would look again by itself, but not so soon
			m.stop()
			m.start(t)
		}
		manager.state(t, m.cfg.Hostname, api.NodeStatus_READY)
		if after := contents(t, filepath.Join(m.cfg.StateDir, "certificates")); after == before {
			continue
		}
		if _, cert, err := m.files().Load(time.Now()); err != nil || cert.Valid(time.Now()) != nil {
			t.Errorf("%s keeps a certificate that is not valid: %v", m.cfg.Hostname, err)
		}
	}
}

// Fault 36: roots and tokens are replaced while clients write through every manager.
// No request fails at a client that repeats what it is told it may repeat, and what
// was worth something before is worth nothing afterwards.
func TestRootsAndTokensRotateUnderLoad(t *testing.T) {
	t.Parallel()
	managers := []*member{newMember(t, "one"), newMember(t, "two"), newMember(t, "three")}
	managers[0].start(t)
	managers[0].ready(t, 1)
	for _, m := range managers[1:] {
		m.join(t, managers[0], api.NodeRole_MANAGER)
	}
	worker := newMember(t, "worker")
	worker.join(t, managers[0], api.NodeRole_WORKER)
	managers[0].ready(t, 4)
	managers[0].voters(t, 3)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var written atomic.Int64
	for i := range 8 {
		control := managers[i%len(managers)].control
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r := &api.CreateConfigRequest{Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: fmt.Sprintf("c%d.%d", i, n)}, Data: []byte("x")}}
				for {
					_, err := control.CreateConfig(context.WithoutCancel(ctx), r)
					if err == nil {
						written.Add(1)
						break
					}
					if !mayRepeat(err) {
						t.Errorf("write %s: %v", r.GetSpec().GetAnnotations().GetName(), err)
						return
					}
				}
			}
		})
	}
	first := managers[0].cluster(t).GetRootCa()
	for i := range 3 {
		managers[i].rotate(t)
	}
	managers[1].update(t, func(*api.ClusterSpec) {}, &api.KeyRotation{WorkerJoinToken: true, ManagerJoinToken: true})
	stop()
	group.Wait()

	last := managers[2].cluster(t).GetRootCa()
	answer, err := managers[2].control.ListConfigs(t.Context(), &api.ListConfigsRequest{})
	if err != nil || int64(len(answer.GetConfigs())) != written.Load() || written.Load() == 0 {
		t.Errorf("%d configs are there, %d were acknowledged: %v", len(answer.GetConfigs()), written.Load(), err)
	}
	for _, n := range managers[0].ready(t, 4) {
		block, _ := pem.Decode(last.GetCaCert())
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if string(n.GetDescription().GetTlsInfo().GetCertIssuerPublicKey()) != string(cert.RawSubjectPublicKeyInfo) {
			t.Errorf("%s has no certificate of the last root", n.GetDescription().GetHostname())
		}
	}
	for _, token := range []string{first.GetJoinTokens().GetManager(), first.GetJoinTokens().GetWorker()} {
		late := newMember(t, "late")
		late.cfg.JoinAddr, late.cfg.JoinToken = managers[1].cfg.Listen, token
		if why := refused(t, late.cfg); !strings.Contains(why, "does not match fingerprint") {
			t.Errorf("an old token is refused with %q", why)
		}
	}
	for _, m := range append(managers, worker) {
		await(t, m.cfg.Hostname+" trusts the last root", func() bool {
			root, _, err := m.files().Load(m.cfg.Now())
			return err == nil && ca.HashOf(root.PEM()) == last.GetCaCertHash()
		})
	}
}

// mayRepeat reports whether an error says that the request may be repeated.
func mayRepeat(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if _, ok := detail.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}
