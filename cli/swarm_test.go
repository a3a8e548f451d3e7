package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/internal/inproc"
	"skep/model"
	"skep/rpc"
	"skep/rpc/controlapi"
	"skep/rpc/insight"
	"skep/store"
)

// swarm is a manager's services over a store of their own, and what a test lets
// happen behind them: raft's view, and this node. It lives in a synctest bubble.
type swarm struct {
	t     *testing.T
	store *store.Store
	conn  *inproc.Conn

	mu   sync.Mutex
	raft insight.Raft
	node *skep.StatusResponse
	// err, if set, is what every request that needs a leader gets.
	err error
	// left are the requests to leave that came.
	left []*skep.LeaveRequest
}

const clusterID = "cluster0"

// newSwarm makes a swarm of managers, the first of which leads and is this node,
// and workers.
func newSwarm(t *testing.T, managers, workers int) *swarm {
	t.Helper()
	s := &swarm{t: t, store: store.NewLocal(store.Config{Now: time.Now, Freeze: true}), raft: insight.Raft{Leader: 1, Term: 2, Commit: 100}}
	s.node = &skep.StatusResponse{NodeId: "m1", ClusterId: clusterID, Manager: true, Leader: true, Version: "v1", State: skep.StatusResponse_RUNNING, Addr: addrOf(1)}
	objects := []store.Object{&api.Cluster{Id: clusterID, Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}},
		RootCa: &api.RootCA{CaCert: []byte("OLD"), CaCertHash: ca.HashOf([]byte("OLD")), JoinTokens: &api.JoinTokens{Worker: "SWMTKN-w", Manager: "SWMTKN-m"}}}}
	for i := range managers {
		n := node(fmt.Sprint("m", i+1), api.NodeRole_MANAGER)
		objects = append(objects, n)
		s.raft.Members = append(s.raft.Members, insight.Member{RaftID: uint64(i + 1), NodeID: n.Id, Addr: addrOf(i + 1), Reachability: api.RaftMemberStatus_REACHABLE, Match: 100})
		s.node.Managers = append(s.node.Managers, addrOf(i+1))
	}
	for i := range workers {
		objects = append(objects, node(fmt.Sprint("w", i+1), api.NodeRole_WORKER))
	}
	s.write(func(tx *store.Tx) error {
		for _, o := range objects {
			if err := tx.Create(o); err != nil {
				return err
			}
		}
		return nil
	})
	s.conn = &inproc.Conn{Status: func(err error) error {
		if _, ok := status.FromError(err); ok {
			return err
		}
		return status.Error(rpc.CodeOf(model.KindOf(err)), err.Error())
	}}
	api.RegisterControlServer(s.conn, &control{controlapi.New(controlapi.Config{Store: s.store, NewID: func() string { return "new" },
		Members: s.members, Promotable: func(*api.Node) error { return nil }, NewJoinToken: func([]byte) (string, error) { return "SWMTKN-new", nil }}), s})
	api.RegisterCAServer(s.conn, unlockKeys{s: s})
	skep.RegisterInsightServer(s.conn, leading{insight.New(insight.Config{Store: s.store, ClusterID: clusterID, Now: time.Now, Raft: s.raftNow, Changed: func() <-chan struct{} { return nil }}), s})
	skep.RegisterLocalServer(s.conn, &local{s: s})
	t.Cleanup(s.conn.Close)
	return s
}

func addrOf(i int) string { return fmt.Sprintf("10.0.0.%d:4242", i) }

func node(id string, role api.NodeRole) *api.Node {
	return &api.Node{Id: id, Role: role, Spec: &api.NodeSpec{DesiredRole: role, Membership: api.NodeSpec_ACCEPTED}, Status: &api.NodeStatus{State: api.NodeStatus_READY},
		Description: &api.NodeDescription{Hostname: "host-" + id, Engine: &api.EngineDescription{EngineVersion: "v1"}}}
}

func (s *swarm) raftNow() insight.Raft {
	s.mu.Lock()
	defer s.mu.Unlock()
	raft := s.raft
	raft.Members = slices.Clone(raft.Members)
	return raft
}

func (s *swarm) members() []*api.RaftMember {
	var members []*api.RaftMember
	raft := s.raftNow()
	for _, m := range raft.Members {
		members = append(members, &api.RaftMember{RaftId: m.RaftID, NodeId: m.NodeID, Addr: m.Addr,
			Status: &api.RaftMemberStatus{Leader: m.RaftID == raft.Leader, Reachability: m.Reachability}})
	}
	return members
}

// after lets something happen some time from now: a little earlier, so that who
// looks at that moment has it behind him.
func (s *swarm) after(d time.Duration, happen func()) {
	time.AfterFunc(d-interval/5, happen)
}

func (s *swarm) locked(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *swarm) write(f func(tx *store.Tx) error) {
	if err := s.store.Update(context.Background(), f); err != nil {
		s.t.Error(err)
	}
}

func (s *swarm) editNode(id string, edit func(*api.Node)) {
	s.write(func(tx *store.Tx) error {
		n, ok := tx.Nodes.Get(id)
		if !ok {
			return fmt.Errorf("no node %s", id)
		}
		n = proto.CloneOf(n)
		edit(n)
		return tx.Update(n)
	})
}

func (s *swarm) editCluster(edit func(*api.Cluster)) {
	s.write(func(tx *store.Tx) error {
		c, _ := tx.Clusters.Get(clusterID)
		c = proto.CloneOf(c)
		edit(c)
		return tx.Update(c)
	})
}

func (s *swarm) clusterNow() *api.Cluster {
	c, _ := s.store.Read().Clusters.Get(clusterID)
	return c
}

func (s *swarm) nodeNow(id string) *api.Node {
	n, _ := s.store.Read().Nodes.Get(id)
	return n
}

// result is what one run of swarmctl left behind.
type result struct {
	status    int
	out, errs string
}

// ctl runs swarmctl.
func (s *swarm) ctl(args ...string) result { return s.with(s.t.Context(), "", args...) }

// with runs swarmctl with standard input.
func (s *swarm) with(ctx context.Context, in string, args ...string) result {
	var out, errs bytes.Buffer
	a := &app{Streams: Streams{In: strings.NewReader(in), Out: &out, Err: &errs}, conn: s.conn, close: func() {}, path: "test.sock"}
	code := a.run(ctx, args)
	return result{code, out.String(), errs.String()}
}

// expect checks the exit status and that each part is in what was said, on either
// stream, in this order.
func (r result) expect(t *testing.T, code int, parts ...string) {
	t.Helper()
	all := r.out + r.errs
	if r.status != code {
		t.Errorf("exit status %d, want %d; it says:\n%s", r.status, code, all)
	}
	for _, part := range parts {
		i := strings.Index(all, part)
		if i < 0 {
			t.Fatalf("it does not say %q (here):\n%s", part, r.out+r.errs)
		}
		all = all[i+len(part):]
	}
}

// control is the control API; what a later version of it does is done here.
type control struct {
	*controlapi.Server
	s *swarm
}

func (c *control) GetNode(ctx context.Context, r *api.GetNodeRequest) (*api.GetNodeResponse, error) {
	if err := c.s.leaderless(); err != nil {
		return nil, err
	}
	return c.Server.GetNode(ctx, r)
}

// UpdateCluster acts on root, lock and keys, too.
func (c *control) UpdateCluster(ctx context.Context, r *api.UpdateClusterRequest) (*api.UpdateClusterResponse, error) {
	config, old := r.Spec.GetCaConfig(), c.s.clusterNow()
	if index := r.GetClusterVersion().GetIndex(); index != old.GetMeta().GetVersion().GetIndex() {
		return nil, model.Errorf(model.Conflict, "update out of sequence")
	}
	c.s.editCluster(func(k *api.Cluster) {
		k.Spec = proto.CloneOf(r.Spec)
		switch {
		case bytes.Equal(config.GetSigningCaCert(), old.RootCa.CaCert) && len(config.GetSigningCaCert()) > 0:
			k.RootCa.RootRotation = nil
		case len(config.GetSigningCaCert()) > 0:
			k.RootCa.RootRotation = &api.RootRotation{CaCert: config.SigningCaCert, CaKey: config.SigningCaKey}
		case config.GetForceRotate() != old.GetRootCa().GetLastForcedRotation():
			k.RootCa.RootRotation, k.RootCa.LastForcedRotation = &api.RootRotation{CaCert: newRoot(c.s.t)}, config.ForceRotate
		}
		if r.GetRotation().GetManagerUnlockKey() || r.Spec.GetEncryptionConfig().GetAutoLockManagers() && len(k.UnlockKeys) == 0 {
			k.UnlockKeys = []*api.EncryptionKey{{Key: bytes.Repeat([]byte{byte(len(old.UnlockKeys) + 1)}, 32)}}
		}
		if r.GetRotation().GetWorkerJoinToken() {
			k.RootCa.JoinTokens.Worker = "SWMTKN-new"
		}
	})
	got, err := c.GetCluster(ctx, &api.GetClusterRequest{ClusterId: clusterID})
	return &api.UpdateClusterResponse{Cluster: got.GetCluster()}, err
}

// newRoot makes a root certificate.
func newRoot(t *testing.T) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "swarm-ca"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(20, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Error(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// converge gives a node a certificate of the new root.
func (s *swarm) converge(id string) {
	block, _ := pem.Decode(s.clusterNow().GetRootCa().GetRootRotation().GetCaCert())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.editNode(id, func(n *api.Node) {
		n.Description.TlsInfo = &api.NodeTLSInfo{CertIssuerSubject: root.RawSubject, CertIssuerPublicKey: root.RawSubjectPublicKeyInfo}
	})
}

// adopt makes the new root the one that is trusted.
func (s *swarm) adopt() {
	s.editCluster(func(c *api.Cluster) {
		c.RootCa.CaCert = c.RootCa.RootRotation.CaCert
		c.RootCa.CaCertHash, c.RootCa.RootRotation = ca.HashOf(c.RootCa.CaCert), nil
	})
}

type unlockKeys struct {
	api.UnimplementedCAServer
	s *swarm
}

func (u unlockKeys) GetUnlockKey(context.Context, *api.GetUnlockKeyRequest) (*api.GetUnlockKeyResponse, error) {
	r := &api.GetUnlockKeyResponse{}
	if keys := u.s.clusterNow().UnlockKeys; len(keys) > 0 {
		r.UnlockKey = keys[0].Key
	}
	return r, nil
}

func (s *swarm) leaderless() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// leading answers while there is a leader.
type leading struct {
	*insight.Server
	s *swarm
}

func (l leading) ClusterHealth(ctx context.Context, r *skep.ClusterHealthRequest) (*skep.ClusterHealthResponse, error) {
	if err := l.s.leaderless(); err != nil {
		return nil, err
	}
	return l.Server.ClusterHealth(ctx, r)
}

// local is the node's own service: it is locked with one key, and leaves in three
// steps of a second.
type local struct {
	skep.UnimplementedLocalServer
	s *swarm
}

const (
	goodKey  = "SWMKEY-1-AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
	wrongKey = "SWMKEY-1-AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI"
)

func (l *local) Status(context.Context, *skep.StatusRequest) (*skep.StatusResponse, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return proto.CloneOf(l.s.node), nil
}

func (l *local) Unlock(_ context.Context, r *skep.UnlockRequest) (*skep.UnlockResponse, error) {
	if r.UnlockKey != goodKey {
		return nil, model.Errorf(model.Invalid, "unlock the manager: the key does not fit; 'swarmctl cluster unlock-key' on a manager that runs prints the right one")
	}
	l.s.locked(func() { l.s.node.State, l.s.node.Message = skep.StatusResponse_STARTING, "reads its log" })
	l.s.after(2*time.Second, func() {
		l.s.locked(func() { l.s.node.State, l.s.node.Message = skep.StatusResponse_RUNNING, "" })
	})
	return &skep.UnlockResponse{}, nil
}

func (l *local) Leave(r *skep.LeaveRequest, stream grpc.ServerStreamingServer[skep.LeaveProgress]) error {
	manager := false
	l.s.locked(func() { l.s.left, manager = append(l.s.left, r), l.s.node.Manager })
	if manager && !r.Force {
		return model.Errorf(model.Precondition, "this node is a manager")
	}
	for _, doing := range []string{"stops its tasks", "leaves the other managers", "removes what is on disk"} {
		if err := stream.Send(&skep.LeaveProgress{Message: doing}); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	return nil
}
