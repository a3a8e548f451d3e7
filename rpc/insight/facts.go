package insight

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"iter"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
)

// maxWaiting is how many nodes a rotation names.
const maxWaiting = 20

// facts are what is judged: the managers, and what else the judgement looks at.
type facts struct {
	now      time.Time
	managers []*manager
	// absent are nodes that are to be managers and are no members, by name.
	absent []string
	root   *x509.Certificate // nil if it cannot be read
	// rotation is nil while the root stays.
	rotation *skep.RootRotationProgress
}

// manager is a member with what its node says.
type manager struct {
	*skep.ManagerHealth
	certificate *x509.Certificate // nil if it cannot be read
}

func (m *manager) name() string { return cmp.Or(m.Hostname, m.NodeId, m.Addr) }

func (m *manager) reachable() bool { return m.Reachability == skep.ManagerHealth_REACHABLE }

// gather puts together what is known. It walks over the nodes once.
func gather(now time.Time, raft Raft, cluster *api.Cluster, nodes iter.Seq[*api.Node]) facts {
	f := facts{now: now, root: leaf(cluster.GetRootCa().GetCaCert())}
	members := make(map[string]*manager, len(raft.Members))
	for _, m := range raft.Members {
		members[m.NodeID] = &manager{ManagerHealth: health(raft, m)}
		f.managers = append(f.managers, members[m.NodeID])
	}
	target := leaf(cluster.GetRootCa().GetRootRotation().GetCaCert())
	if target != nil {
		f.rotation = &skep.RootRotationProgress{RootDigest: ca.HashOf(cluster.GetRootCa().GetRootRotation().GetCaCert())}
	}
	for n := range nodes {
		if target != nil {
			count(f.rotation, target, n)
		}
		m, ok := members[n.GetId()]
		switch {
		case ok:
			m.Hostname = n.GetDescription().GetHostname()
			m.Version = n.GetDescription().GetEngine().GetEngineVersion()
			if m.certificate = leaf(n.GetCertificate().GetCertificate()); m.certificate != nil {
				m.CertificateExpiresAt = timestamppb.New(m.certificate.NotAfter)
			}
		case n.GetSpec().GetDesiredRole() == api.NodeRole_MANAGER:
			f.absent = append(f.absent, nodeName(n))
		}
	}
	slices.SortFunc(f.managers, func(x, y *manager) int {
		return cmp.Or(strings.Compare(x.Hostname, y.Hostname), strings.Compare(x.NodeId, y.NodeId), cmp.Compare(x.RaftId, y.RaftId))
	})
	slices.Sort(f.absent)
	if f.rotation != nil {
		slices.SortFunc(f.rotation.Waiting, func(x, y *skep.WaitingNode) int {
			// Those that have a reason first: they are what is looked for.
			return cmp.Or(strings.Compare(y.Reason, x.Reason), strings.Compare(x.Hostname, y.Hostname), strings.Compare(x.NodeId, y.NodeId))
		})
		f.rotation.Waiting = f.rotation.Waiting[:min(len(f.rotation.Waiting), maxWaiting)]
	}
	return f
}

// health is what raft says of a member.
func health(raft Raft, m Member) *skep.ManagerHealth {
	h := &skep.ManagerHealth{
		NodeId: m.NodeID, Addr: m.Addr, RaftId: m.RaftID,
		Leader: m.RaftID == raft.Leader, Learner: m.Learner,
		MatchIndex: m.Match,
	}
	switch {
	case h.Leader, m.Reachability == api.RaftMemberStatus_REACHABLE:
		h.Reachability = skep.ManagerHealth_REACHABLE
	case m.Reachability == api.RaftMemberStatus_UNREACHABLE:
		h.Reachability = skep.ManagerHealth_UNREACHABLE
		if !m.UnreachableSince.IsZero() {
			h.UnreachableSince = timestamppb.New(m.UnreachableSince)
		}
	}
	if !h.Leader && raft.Commit > m.Match {
		h.Behind = raft.Commit - m.Match
	}
	return h
}

// count adds a node to the progress of a rotation. It is through when what issued
// its certificate is the new root: the same subject and key, also where the old
// root has signed that.
func count(progress *skep.RootRotationProgress, target *x509.Certificate, n *api.Node) {
	progress.Nodes++
	info := n.GetDescription().GetTlsInfo()
	if bytes.Equal(info.GetCertIssuerSubject(), target.RawSubject) && bytes.Equal(info.GetCertIssuerPublicKey(), target.RawSubjectPublicKeyInfo) {
		progress.Converged++
		return
	}
	waiting := &skep.WaitingNode{NodeId: n.GetId(), Hostname: n.GetDescription().GetHostname()}
	switch certificate := n.GetCertificate().GetStatus(); {
	case n.GetStatus().GetState() == api.NodeStatus_DOWN:
		waiting.Reason = "it is down"
	case certificate.GetState() == api.IssuanceStatus_FAILED:
		waiting.Reason = "its certificate was refused: " + cmp.Or(certificate.GetErr(), "no reason is given")
	case n.GetStatus().GetState() == api.NodeStatus_DISCONNECTED:
		waiting.Reason = "it has left its manager and is not back yet"
	}
	progress.Waiting = append(progress.Waiting, waiting)
}

func nodeName(n *api.Node) string { return cmp.Or(n.GetDescription().GetHostname(), n.GetId()) }

// leaf returns the first certificate of a bundle, nil if it cannot be read.
func leaf(bundle []byte) *x509.Certificate {
	block, _ := pem.Decode(bundle)
	if block == nil {
		return nil
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return certificate
}
