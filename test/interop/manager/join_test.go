package manager

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/swarmkit/v2/api"
	"github.com/moby/swarmkit/v2/ca"
	"google.golang.org/grpc/codes"
)

// sign asks for a certificate once, with a new key, as the library does.
func (m *swarmd) sign(t *testing.T, config ca.CertificateRequestConfig) error {
	t.Helper()
	ctx := library(t, m, "library")
	csr, _, err := ca.GenerateNewCSR()
	if err != nil {
		t.Fatal(err)
	}
	config.ConnBroker = brokerTo(m.addr)
	root := must(ca.GetRemoteCA(ctx, "", config.ConnBroker))(t)
	_, err = ca.GetRemoteSignedCertificate(ctx, csr, root.Pool, config)
	return err
}

func (m member) leaf(t *testing.T) *x509.Certificate {
	t.Helper()
	return must(x509.ParseCertificate(m.security.ClientTLSCreds.Config().Certificates[0].Certificate[0]))(t)
}

func TestAJoinedNodeHasAStockCertificate(t *testing.T) {
	t.Parallel()
	m := start(t)
	cluster := m.cluster(t)
	w := m.member(t, cluster.RootCA.JoinTokens.Worker)
	if !bytes.Equal(w.security.RootCA().Certs, cluster.RootCA.CACert) {
		t.Errorf("the node got the root %q, the cluster has %q", w.security.RootCA().Certs, cluster.RootCA.CACert)
	}
	leaf := w.leaf(t)
	subject := leaf.Subject
	if subject.CommonName != w.id || !slices.Equal(subject.Organization, []string{cluster.ID}) || !slices.Equal(subject.OrganizationalUnit, []string{ca.WorkerRole}) {
		t.Errorf("subject is %v, want node %s, role %s, cluster %s", subject, w.id, ca.WorkerRole, cluster.ID)
	}
	if len(leaf.DNSNames) != 2 || !slices.Contains(leaf.DNSNames, w.id) || !slices.Contains(leaf.DNSNames, ca.WorkerRole) {
		t.Errorf("names are %q, want %q and %q", leaf.DNSNames, w.id, ca.WorkerRole)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment ||
		!slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
		t.Errorf("key usage is %b, extended %v, CA %t", leaf.KeyUsage, leaf.ExtKeyUsage, leaf.IsCA)
	}
	// The lifetime begins an hour before, for clocks that are behind.
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < ca.DefaultNodeCertExpiration || life > ca.DefaultNodeCertExpiration+2*time.Hour {
		t.Errorf("it is valid for %v, want about %v", life, ca.DefaultNodeCertExpiration)
	}
	n := m.node(t, w.id)
	if n.Certificate.Status.State != api.IssuanceStateIssued || n.Certificate.CN != w.id || n.Spec.Membership != api.NodeMembershipAccepted || n.Spec.DesiredRole != api.NodeRoleWorker {
		t.Errorf("the node is shown as %v", n)
	}
}

func TestANodeJoinsWithTheAvailabilityItAsksFor(t *testing.T) {
	t.Parallel()
	m := start(t)
	token := m.cluster(t).RootCA.JoinTokens.Worker
	if err := m.sign(t, ca.CertificateRequestConfig{Token: token, Availability: api.NodeAvailabilityDrain}); err != nil {
		t.Fatal(err)
	}
	workers := must(m.ListNodes(m.ctx, &api.ListNodesRequest{Filters: &api.ListNodesRequest_Filters{Roles: []api.NodeRole{api.NodeRoleWorker}}}))(t).Nodes
	if len(workers) != 1 || workers[0].Spec.Availability != api.NodeAvailabilityDrain {
		t.Errorf("got workers %v, want one that is drained", workers)
	}
}

func TestANodeWithoutAValidTokenStaysOut(t *testing.T) {
	t.Parallel()
	m := start(t)
	cluster := m.cluster(t)
	tokens := cluster.RootCA.JoinTokens
	wrong := tokens.Worker[:len(tokens.Worker)-1] + other(tokens.Worker[len(tokens.Worker)-1])
	const words = "A valid join token is necessary to join this cluster"
	refused(t, m.sign(t, ca.CertificateRequestConfig{Token: wrong}), codes.InvalidArgument, words)
	refused(t, m.sign(t, ca.CertificateRequestConfig{}), codes.InvalidArgument, words)
	// Stock engines cannot be managers of this swarm; they are told before there
	// is a node of them.
	refused(t, m.sign(t, ca.CertificateRequestConfig{Token: tokens.Manager}), codes.FailedPrecondition, "worker token")

	updated := must(m.UpdateCluster(m.ctx, &api.UpdateClusterRequest{
		ClusterID: cluster.ID, ClusterVersion: &cluster.Meta.Version, Spec: &cluster.Spec, Rotation: api.KeyRotation{WorkerJoinToken: true},
	}))(t).Cluster
	refused(t, m.sign(t, ca.CertificateRequestConfig{Token: tokens.Worker}), codes.InvalidArgument, words)
	if got := len(m.nodes(t)); got != 1 {
		t.Errorf("there are %d nodes, want the manager alone", got)
	}
	m.member(t, updated.RootCA.JoinTokens.Worker)
}

// other is another character of a token.
func other(c byte) string {
	if c == '1' {
		return "2"
	}
	return "1"
}

func TestATokenOfAnotherSwarmDoesNotTrustThisOne(t *testing.T) {
	t.Parallel()
	m := start(t)
	parts := strings.Split(m.cluster(t).RootCA.JoinTokens.Worker, "-")
	digest := parts[2]
	parts[2] = digest[:len(digest)-1] + other(digest[len(digest)-1])
	parsed := must(ca.ParseJoinToken(strings.Join(parts, "-")))(t)
	_, err := ca.GetRemoteCA(library(t, m, "library"), parsed.RootDigest, brokerTo(m.addr))
	if err == nil || !strings.Contains(err.Error(), "remote CA does not match fingerprint") {
		t.Errorf("got %v, want that the fingerprint does not match", err)
	}
}

func TestACertificateIsNotIssuedForNothing(t *testing.T) {
	t.Parallel()
	m := start(t)
	conn := m.dial(t, tlsCredentials{&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}})
	nodes, token := api.NewNodeCAClient(conn), m.cluster(t).RootCA.JoinTokens.Worker
	m.try(t, []refusal{
		{"no request", codes.InvalidArgument, "CSR", func(ctx context.Context) error {
			return errorOf(nodes.IssueNodeCertificate(ctx, &api.IssueNodeCertificateRequest{Token: token}))
		}},
		{"status without node", codes.InvalidArgument, "node", func(ctx context.Context) error {
			return errorOf(nodes.NodeCertificateStatus(ctx, &api.NodeCertificateStatusRequest{}))
		}},
		{"status of an unknown node", codes.NotFound, "node", func(ctx context.Context) error {
			return errorOf(nodes.NodeCertificateStatus(ctx, &api.NodeCertificateStatusRequest{NodeID: "x"}))
		}},
		{"control without a certificate", codes.PermissionDenied, "", func(ctx context.Context) error {
			return errorOf(api.NewControlClient(conn).ListNodes(ctx, &api.ListNodesRequest{}))
		}},
		{"heartbeat without a certificate", codes.PermissionDenied, "", func(ctx context.Context) error {
			return errorOf(api.NewDispatcherClient(conn).Heartbeat(ctx, &api.HeartbeatRequest{}))
		}},
	})
}

func TestARemovedNodeIsRefused(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.worker(t, "worker")
	m.until(t, "the worker is ready", func() bool { return m.node(t, w.id).Status.State == api.NodeStatus_READY })
	_, err := m.RemoveNode(m.ctx, &api.RemoveNodeRequest{NodeID: w.id})
	refused(t, err, codes.FailedPrecondition, "is not down")
	must(m.RemoveNode(m.ctx, &api.RemoveNodeRequest{NodeID: w.id, Force: true}))(t)
	w.executor.until(m.ctx, t, "the worker is told", func() bool { return len(w.failures) > 0 })
	_, err = m.GetNode(m.ctx, &api.GetNodeRequest{NodeID: w.id})
	refused(t, err, codes.NotFound, w.id)

	stream := must(api.NewDispatcherClient(m.dial(t, w.security.ClientTLSCreds)).Session(m.ctx, &api.SessionRequest{Description: &api.NodeDescription{}}))(t)
	_, err = stream.Recv()
	refused(t, err, codes.PermissionDenied, w.id)
	refused(t, m.sign(t, ca.CertificateRequestConfig{Credentials: w.security.ClientTLSCreds}), codes.PermissionDenied, "removed from the swarm")
}
