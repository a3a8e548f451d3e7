package insight_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"skep/api"
	"skep/api/skep"
	"skep/rpc/insight"
)

// now is when everything in these tests is judged.
func now() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }

// swarm is what a case draws.
type swarm struct {
	raft    insight.Raft
	cluster *api.Cluster
	nodes   []*api.Node
}

// draw reads a swarm, one node a line: its name, then words.
//
//	leader, learner, unreachable, unknown   a member of raft that is that
//	voter                                   a member of raft that is reachable
//	promoted                                a worker that is to be a manager
//	down, disconnected, refused             what its node's status or certificate says
//	new-root                                its certificate is of the new root
//	addr=A since=AGO behind=N version=V
//	cert=LEFT/ALL                           validity of its certificate
//
// "autolock", "rotating" and "root=LEFT/ALL" on a line of "swarm" are the
// cluster's.
func draw(t *testing.T, text string) swarm {
	t.Helper()
	const commit = 10_000
	s := swarm{
		raft:    insight.Raft{Term: 3, Commit: commit},
		cluster: &api.Cluster{Id: "cluster", RootCa: &api.RootCA{CaCertHash: "sha256:OLD"}, Spec: &api.ClusterSpec{}},
	}
	subject, key, target := root(t)
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		i := uint64(len(s.nodes)) + 1
		n := &api.Node{Id: "id-" + name, Spec: &api.NodeSpec{}, Status: &api.NodeStatus{State: api.NodeStatus_READY},
			Description: &api.NodeDescription{Hostname: name, Engine: &api.EngineDescription{}}, Certificate: &api.Certificate{Status: &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED}}}
		m := insight.Member{RaftID: i, NodeID: n.Id, Addr: fmt.Sprintf("10.0.0.%d:4242", i), Match: commit}
		member := false
		for _, word := range strings.Fields(rest) {
			key0, value, _ := strings.Cut(word, "=")
			switch key0 {
			case "leader":
				member, s.raft.Leader = true, i
			case "voter":
				member, m.Reachability = true, api.RaftMemberStatus_REACHABLE
			case "learner":
				member, m.Learner, m.Reachability = true, true, api.RaftMemberStatus_REACHABLE
			case "unreachable":
				member, m.Reachability = true, api.RaftMemberStatus_UNREACHABLE
			case "unknown":
				member = true
			case "promoted":
				n.Spec.DesiredRole = api.NodeRole_MANAGER
			case "down":
				n.Status.State = api.NodeStatus_DOWN
			case "disconnected":
				n.Status.State = api.NodeStatus_DISCONNECTED
			case "refused":
				n.Certificate.Status = &api.IssuanceStatus{State: api.IssuanceStatus_FAILED, Err: "the external CA says no"}
			case "new-root":
				n.Description.TlsInfo = &api.NodeTLSInfo{CertIssuerSubject: subject, CertIssuerPublicKey: key}
			case "addr":
				m.Addr = value
			case "version":
				n.Description.Engine.EngineVersion = value
			case "since":
				m.UnreachableSince = now().Add(-duration(t, value))
			case "behind":
				behind, err := strconv.ParseUint(value, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				m.Match = commit - behind
			case "cert":
				n.Certificate.Certificate = certificate(t, value)
			case "autolock":
				s.cluster.Spec.EncryptionConfig = &api.EncryptionConfig{AutoLockManagers: true}
			case "root":
				s.cluster.RootCa.CaCert = certificate(t, value)
			case "rotating":
				s.cluster.RootCa.RootRotation = &api.RootRotation{CaCert: target, CaKey: []byte("KEY")}
			default:
				t.Fatalf("%q is no word for a node", word)
			}
		}
		if name == "swarm" {
			continue
		}
		s.nodes = append(s.nodes, n)
		if member {
			s.raft.Members = append(s.raft.Members, m)
		}
	}
	return s
}

// duration reads "3d" too.
func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	days, err := strconv.Atoi(strings.TrimSuffix(text, "d"))
	if err == nil {
		return time.Duration(days) * 24 * time.Hour
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// certificate makes one that is valid for ALL, of which LEFT is left.
func certificate(t *testing.T, validity string) []byte {
	t.Helper()
	left, all, _ := strings.Cut(validity, "/")
	end := now().Add(duration(t, left))
	_, _, bundle := selfSigned(t, end.Add(-duration(t, all)), end)
	return bundle
}

// root makes the root that is rotated to.
func root(t *testing.T) (subject, key, bundle []byte) {
	t.Helper()
	return selfSigned(t, now(), now().AddDate(20, 0, 0))
}

func selfSigned(t *testing.T, from, to time.Time) (subject, key, bundle []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "swarm-ca"}, NotBefore: from, NotAfter: to}, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "swarm-ca"}}, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c.RawSubject, c.RawSubjectPublicKeyInfo, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestHealthIsJudged(t *testing.T) {
	t.Parallel()
	datadriven.RunTest(t, "testdata/health.txt", func(t *testing.T, d *datadriven.TestData) string {
		s := draw(t, d.Input)
		r := insight.Judge(now(), s.raft, s.cluster, slices.Values(s.nodes))
		var b strings.Builder
		fmt.Fprintf(&b, "%s: %s\n", r.State, r.Verdict)
		if p := r.RootRotation; p != nil {
			fmt.Fprintf(&b, "rotation: %d/%d nodes", p.Converged, p.Nodes)
			for _, n := range p.Waiting {
				fmt.Fprintf(&b, ", waits for %s", n.Hostname)
				if n.Reason != "" {
					fmt.Fprintf(&b, " (%s)", n.Reason)
				}
			}
			fmt.Fprintln(&b)
		}
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "%s: %s\n  why: %s\n  do: %s\n", strings.ToLower(p.Severity.String()), p.What, p.Why, p.Next)
		}
		return b.String()
	})
}

func TestHealthTellsWhatRaftKnowsOfEachManager(t *testing.T) {
	t.Parallel()
	s := draw(t, `swarm autolock root=300d/3650d
		gamma unreachable since=2h behind=40
		alpha leader version=v1 cert=60d/90d
		beta learner behind=7
		delta`)
	r := insight.Judge(now(), s.raft, s.cluster, slices.Values(s.nodes))
	if !r.Autolock || r.RootDigest != "sha256:OLD" || r.Term != 3 || r.CommitIndex != 10_000 || r.LeaderNodeId != "id-alpha" || r.Voters != 2 || r.Quorum != 2 || r.CanLose != 0 {
		t.Errorf("got %v, want term 3 at 10000, led by alpha, 2 voters that are both needed, locked", r)
	}
	var names []string
	for _, m := range r.Managers {
		names = append(names, m.Hostname)
	}
	if !slices.Equal(names, []string{"alpha", "beta", "gamma"}) {
		t.Fatalf("got managers %v, want alpha, beta and gamma in this order", names)
	}
	alpha, beta, gamma := r.Managers[0], r.Managers[1], r.Managers[2]
	if !alpha.Leader || alpha.Behind != 0 || alpha.Reachability != skep.ManagerHealth_REACHABLE || alpha.Version != "v1" ||
		!alpha.CertificateExpiresAt.AsTime().Equal(now().AddDate(0, 0, 60)) {
		t.Errorf("got %v, want a leader that is reachable, with a certificate for 60 days", alpha)
	}
	if !beta.Learner || beta.Behind != 7 || beta.MatchIndex != 9_993 || beta.UnreachableSince != nil || beta.CertificateExpiresAt != nil {
		t.Errorf("got %v, want a learner 7 entries behind, without a certificate", beta)
	}
	if gamma.Reachability != skep.ManagerHealth_UNREACHABLE || !gamma.UnreachableSince.AsTime().Equal(now().Add(-2*time.Hour)) || gamma.Addr != "10.0.0.1:4242" || gamma.RaftId != 1 {
		t.Errorf("got %v, want one that is unreachable for two hours", gamma)
	}
}

func TestARotationNamesTwentyNodesAndThoseWithAReasonFirst(t *testing.T) {
	t.Parallel()
	text := "swarm rotating\nm leader new-root\n"
	for i := range 30 {
		text += fmt.Sprintf("w%02d\n", i)
	}
	s := draw(t, text+"x down\n")
	p := insight.Judge(now(), s.raft, s.cluster, slices.Values(s.nodes)).RootRotation
	if p.Nodes != 32 || p.Converged != 1 || len(p.Waiting) != 20 || p.Waiting[0].Hostname != "x" || p.Waiting[1].Hostname != "w00" {
		t.Errorf("got %v, want 1 of 32 nodes, and 20 that are waited for, x and w00 first", p)
	}
	if !strings.HasPrefix(p.RootDigest, "sha256:") {
		t.Errorf("the digest of the new root is %q, want sha256:…", p.RootDigest)
	}
}

func TestNothingIsJudgedWithoutACluster(t *testing.T) {
	t.Parallel()
	r := insight.Judge(now(), insight.Raft{}, nil, slices.Values([]*api.Node{nil, {Id: "n", Certificate: &api.Certificate{Certificate: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}}}))
	if r.State != skep.ClusterHealthResponse_UNKNOWN || r.Verdict == "" || r.CanLose != 0 {
		t.Errorf("got %v, want that nothing is known", r)
	}
}
