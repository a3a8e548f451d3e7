package caserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/metadata"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/model"
	"skep/rpc"
	"skep/store"
)

func TestAManagerJoinsWithTheManagerToken(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.issue(t)
	_, cert, err := s.joiner().Join(t.Context(), token(t, s.tokens.GetManager()), api.NodeSpec_PAUSE)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Role != api.NodeRole_MANAGER || cert.ClusterID != clusterID {
		t.Errorf("joined %s as %s", cert.ClusterID, cert.Role)
	}
	node, _ := s.store.Read().Nodes.Get(cert.NodeID)
	if node.GetRole() != api.NodeRole_MANAGER || node.GetSpec().GetDesiredRole() != api.NodeRole_MANAGER ||
		node.GetSpec().GetMembership() != api.NodeSpec_ACCEPTED || node.GetSpec().GetAvailability() != api.NodeSpec_PAUSE {
		t.Errorf("node %v", node)
	}
}

func TestTheRoleIsThatOfTheTokenThatMatched(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	ours := metadata.NewIncomingContext(t.Context(), metadata.Pairs(ca.VersionMetadata, "test"))
	csr := request(t)
	ids := map[string]api.NodeRole{}
	for token, want := range map[string]api.NodeRole{s.tokens.GetWorker(): api.NodeRole_WORKER, s.tokens.GetManager(): api.NodeRole_MANAGER} {
		for range 2 { // the second is a repetition
			resp, err := srv.IssueNodeCertificate(ours, &api.IssueNodeCertificateRequest{Role: 1 - want, Csr: csr, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			ids[resp.GetNodeId()] = want
		}
	}
	// The same request with the other token is not the same node: what a worker's
	// token made must not be handed to whoever shows a manager's.
	if len(ids) != 2 {
		t.Errorf("nodes %v, want one for each token", ids)
	}
	for id, want := range ids {
		if node, _ := s.store.Read().Nodes.Get(id); node.GetRole() != want || node.GetCertificate().GetRole() != want {
			t.Errorf("node %s is a %s, want %s", id, node.GetRole(), want)
		}
	}
}

func TestATokenThatWasRotatedIsWorthNothing(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	ours := metadata.NewIncomingContext(t.Context(), metadata.Pairs(ca.VersionMetadata, "test"))
	fresh, err := ca.NewRootCA(s.identity.Root(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, func(tx *store.Tx) error {
		cluster, _ := tx.Clusters.Get(clusterID)
		cluster = model.Shallow(cluster)
		cluster.RootCa = model.Shallow(cluster.RootCa)
		cluster.RootCa.JoinTokens = fresh.JoinTokens
		return tx.Update(cluster)
	})
	for name, old := range map[string]string{"worker": s.tokens.GetWorker(), "manager": s.tokens.GetManager()} {
		_, err := srv.IssueNodeCertificate(ours, &api.IssueNodeCertificateRequest{Csr: request(t), Token: old})
		if model.KindOf(err) != model.Invalid || err.Error() != "A valid join token is necessary to join this cluster" {
			t.Errorf("the old %s token: %v", name, err)
		}
	}
	for _, now := range []string{fresh.GetJoinTokens().GetWorker(), fresh.GetJoinTokens().GetManager()} {
		if _, err := srv.IssueNodeCertificate(ours, &api.IssueNodeCertificateRequest{Csr: request(t), Token: now}); err != nil {
			t.Errorf("the new token: %v", err)
		}
	}
}

func TestADemotedManagerRenewsAsAWorkerOnly(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.issue(t)
	root, cert, err := s.joiner().Join(t.Context(), token(t, s.tokens.GetManager()), api.NodeSpec_ACTIVE)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, s, cert.NodeID, func(n *api.Node) { n.Role = api.NodeRole_WORKER })
	// Its old certificate says manager, and the token beside it is not looked at.
	old := rpc.WithCaller(t.Context(), rpc.Identity{NodeID: cert.NodeID, Org: clusterID, Roles: []string{ca.ManagerOU}})
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	resp, err := srv.IssueNodeCertificate(old, &api.IssueNodeCertificateRequest{Csr: request(t), Token: s.tokens.GetManager(), Role: api.NodeRole_MANAGER})
	if err != nil || resp.GetNodeId() != cert.NodeID {
		t.Fatalf("%v, %v", resp, err)
	}
	_, renewed, err := s.joiner().Renew(t.Context(), ca.NewIdentity(root, cert, nil))
	if err != nil || renewed.Role != api.NodeRole_WORKER || renewed.NodeID != cert.NodeID {
		t.Errorf("renewed: %v", err)
	}
}

func TestTheUnlockKeyIsTheClustersAndForManagersOnly(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.issue(t)
	key, err := ca.NewUnlockKey()
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, func(tx *store.Tx) error {
		cluster, _ := tx.Clusters.Get(clusterID)
		cluster = model.Shallow(cluster)
		cluster.UnlockKeys = []*api.EncryptionKey{{Subsystem: ca.ManagerOU, Key: key.Bytes()}}
		return tx.Update(cluster)
	})
	ask := func(id *ca.Identity) (*api.GetUnlockKeyResponse, error) {
		conn, err := client.Dial(s.addr, id.ClientCredentials(ca.ManagerOU))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return client.New(conn).CA.GetUnlockKey(t.Context(), &api.GetUnlockKeyRequest{})
	}
	resp, err := ask(s.identity)
	if got, bad := ca.UnlockKeyOf(resp.GetUnlockKey()); err != nil || bad != nil || !got.Equal(key) {
		t.Errorf("a manager: %v, %v", err, bad)
	}
	if cluster, _ := s.store.Read().Clusters.Get(clusterID); resp.GetVersion().GetIndex() != cluster.GetMeta().GetVersion().GetIndex() {
		t.Errorf("version %v", resp.GetVersion())
	}
	for _, role := range []string{s.tokens.GetWorker(), s.tokens.GetManager()} {
		root, cert, err := s.joiner().Join(t.Context(), token(t, role), api.NodeSpec_ACTIVE)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, s, cert.NodeID, func(n *api.Node) { n.Role = api.NodeRole_WORKER }) // demoted, if it was a manager
		if resp, err := ask(ca.NewIdentity(root, cert, nil)); err == nil {
			t.Errorf("a node that is a worker got %d bytes", len(resp.GetUnlockKey()))
		}
	}
}

func TestStatusRequestsWithoutACertificateWaitInBoundedNumber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewLocal(store.Config{})
		srv := New(Config{Store: s, ClusterID: clusterID, Waiting: 2})
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Create(&api.Node{Id: "n", Certificate: &api.Certificate{Status: &api.IssuanceStatus{State: api.IssuanceStatus_PENDING}}})
		})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(ctx context.Context, id rpc.Identity) error {
			_, err := srv.NodeCertificateStatus(rpc.WithCaller(ctx, id), &api.NodeCertificateStatusRequest{NodeId: "n"})
			return err
		}
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		for port := range 2 {
			go func() { ended <- ask(ctx, rpc.Identity{Addr: fmt.Sprintf("10.0.0.1:%d", 4000+port)}) }()
		}
		synctest.Wait()
		err = ask(t.Context(), rpc.Identity{Addr: "10.0.0.1:5000"})
		if model.KindOf(err) != model.Exhausted || !strings.Contains(err.Error(), "10.0.0.1") {
			t.Errorf("the third from one address: %v", err)
		}
		brief, cancel := context.WithCancel(t.Context())
		cancel()
		for name, id := range map[string]rpc.Identity{
			"another address":             {Addr: "10.0.0.2:4000"},
			"a member at the same":        {Addr: "10.0.0.1:4000", NodeID: "m", Org: clusterID},
			"the socket":                  {Local: true},
			"an address that has no port": {Addr: "@"},
		} {
			if err := ask(brief, id); !errors.Is(err, context.Canceled) {
				t.Errorf("%s does not wait: %v", name, err)
			}
		}
		leave()
		<-ended
		<-ended
		if err := ask(brief, rpc.Identity{Addr: "10.0.0.1:5000"}); !errors.Is(err, context.Canceled) {
			t.Errorf("after those left: %v", err)
		}
		if len(srv.waiting.of) != 0 {
			t.Errorf("still counted: %v", srv.waiting.of)
		}
	})
}

func TestARemovedNodeLearnsNoCertificateStatus(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	srv := New(Config{Store: s.store, ClusterID: clusterID})
	_, err := srv.NodeCertificateStatus(as(t.Context(), "removed", clusterID), &api.NodeCertificateStatusRequest{NodeId: "manager"})
	if model.KindOf(err) != model.Denied {
		t.Errorf("error %v", err)
	}
}
