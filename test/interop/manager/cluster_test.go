package manager

import (
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/types"
	"github.com/moby/swarmkit/v2/api"
	"google.golang.org/grpc/codes"
)

func TestTheClusterIsReadWithoutItsKeys(t *testing.T) {
	t.Parallel()
	m := start(t)
	listed := m.cluster(t)
	got := must(m.GetCluster(m.ctx, &api.GetClusterRequest{ClusterID: listed.ID}))(t).Cluster
	if got.Spec.Annotations.Name != "default" || len(got.ID) != 25 {
		t.Errorf("got cluster %q with ID %q, want \"default\" and 25 characters", got.Spec.Annotations.Name, got.ID)
	}
	for _, c := range []*api.Cluster{listed, got} {
		if len(c.RootCA.CAKey) > 0 || len(c.NetworkBootstrapKeys) > 0 || len(c.UnlockKeys) > 0 || len(c.Spec.CAConfig.SigningCAKey) > 0 {
			t.Errorf("a key of the cluster is shown: %v", c)
		}
		if tokens := c.RootCA.JoinTokens; !strings.HasPrefix(tokens.Worker, "SWMTKN-1-") || !strings.HasPrefix(tokens.Manager, "SWMTKN-1-") {
			t.Errorf("got join tokens %v", tokens)
		}
		if c.VXLANUDPPort != 4789 || len(c.DefaultAddressPool) != 1 || c.DefaultAddressPool[0] != "10.0.0.0/8" || c.SubnetSize != 24 {
			t.Errorf("got port %d, pool %v and subnet size %d, want the defaults", c.VXLANUDPPort, c.DefaultAddressPool, c.SubnetSize)
		}
	}
}

func TestWithoutALockThereIsNoUnlockKey(t *testing.T) {
	t.Parallel()
	m := start(t)
	got := must(api.NewCAClient(m.conn).GetUnlockKey(m.ctx, &api.GetUnlockKeyRequest{}))(t)
	if len(got.UnlockKey) > 0 || got.Version.Index == 0 {
		t.Errorf("got key %q of version %d, want none and the cluster's version", got.UnlockKey, got.Version.Index)
	}
}

func TestTheClusterIsUpdatedAsItWasRead(t *testing.T) {
	t.Parallel()
	m := start(t)
	c := m.cluster(t)
	c.Spec.Orchestration.TaskHistoryRetentionLimit = 2
	c.Spec.Dispatcher.HeartbeatPeriod = types.DurationProto(2 * time.Second)
	c.Spec.CAConfig.NodeCertExpiry = types.DurationProto(24 * time.Hour)
	updated := must(m.UpdateCluster(m.ctx, &api.UpdateClusterRequest{
		ClusterID: c.ID, ClusterVersion: &c.Meta.Version, Spec: &c.Spec,
	}))(t).Cluster
	if s := updated.Spec; s.Orchestration.TaskHistoryRetentionLimit != 2 || s.Dispatcher.HeartbeatPeriod.Seconds != 2 || s.CAConfig.NodeCertExpiry.Seconds != 86400 {
		t.Errorf("updated spec is %v", s)
	}
	if got, want := updated.RootCA.JoinTokens, c.RootCA.JoinTokens; got != want {
		t.Errorf("tokens are %v after an update that rotates none, %v before", got, want)
	}
	_, err := m.UpdateCluster(m.ctx, &api.UpdateClusterRequest{ClusterID: c.ID, ClusterVersion: &c.Meta.Version, Spec: &c.Spec})
	refused(t, err, codes.Aborted, "update out of sequence")
}

func TestJoinTokensAreRotatedOneByOne(t *testing.T) {
	t.Parallel()
	m := start(t)
	rotate := func(r api.KeyRotation) (was, is api.JoinTokens) {
		c := m.cluster(t)
		updated := must(m.UpdateCluster(m.ctx, &api.UpdateClusterRequest{
			ClusterID: c.ID, ClusterVersion: &c.Meta.Version, Spec: &c.Spec, Rotation: r,
		}))(t).Cluster
		return c.RootCA.JoinTokens, updated.RootCA.JoinTokens
	}
	// All but the last part, the secret, stays: it says what the root CA is.
	fixed := func(token string) string { return token[:strings.LastIndex(token, "-")] }
	if was, is := rotate(api.KeyRotation{WorkerJoinToken: true}); was.Worker == is.Worker || was.Manager != is.Manager || fixed(was.Worker) != fixed(is.Worker) {
		t.Errorf("rotated the worker token: %v → %v", was, is)
	}
	if was, is := rotate(api.KeyRotation{ManagerJoinToken: true}); was.Manager == is.Manager || was.Worker != is.Worker || fixed(was.Manager) != fixed(is.Manager) {
		t.Errorf("rotated the manager token: %v → %v", was, is)
	}
}

func TestANodeIsReadAndUpdated(t *testing.T) {
	t.Parallel()
	m := start(t)
	own := m.node(t, m.own)
	if s := own.ManagerStatus; !s.Leader || s.Reachability != api.RaftMemberStatus_REACHABLE || own.Description.Hostname != "manager" || own.Role != api.NodeRoleManager {
		t.Errorf("the manager's node is %v: want the leader, reachable, with its hostname and role", own)
	}
	if own.Description.TLSInfo == nil || len(own.Description.TLSInfo.TrustRoot) == 0 {
		t.Error("the manager's node does not say which root it trusts")
	}
	for _, test := range []struct {
		name    string
		filters api.ListNodesRequest_Filters
		want    int
	}{
		{"hostname", api.ListNodesRequest_Filters{Names: []string{"manager"}}, 1},
		{"prefix of hostname", api.ListNodesRequest_Filters{NamePrefixes: []string{"man"}}, 1},
		{"another hostname", api.ListNodesRequest_Filters{Names: []string{"worker"}}, 0},
		{"prefix of ID", api.ListNodesRequest_Filters{IDPrefixes: []string{own.ID[:20]}}, 1},
		{"role", api.ListNodesRequest_Filters{Roles: []api.NodeRole{api.NodeRoleManager}}, 1},
		{"another role", api.ListNodesRequest_Filters{Roles: []api.NodeRole{api.NodeRoleWorker}}, 0},
		{"membership", api.ListNodesRequest_Filters{Memberships: []api.NodeSpec_Membership{api.NodeMembershipAccepted}}, 1},
		{"node label", api.ListNodesRequest_Filters{NodeLabels: map[string]string{"zone": "a"}}, 0},
	} {
		if got := must(m.ListNodes(m.ctx, &api.ListNodesRequest{Filters: &test.filters}))(t).Nodes; len(got) != test.want {
			t.Errorf("by %s: got %v, want %d nodes", test.name, got, test.want)
		}
	}

	spec := own.Spec
	spec.Annotations.Labels = map[string]string{"zone": "a"}
	spec.Availability = api.NodeAvailabilityPause
	updated := must(m.UpdateNode(m.ctx, &api.UpdateNodeRequest{NodeID: own.ID, NodeVersion: &own.Meta.Version, Spec: &spec}))(t).Node
	if updated.Spec.Availability != api.NodeAvailabilityPause || updated.Spec.Annotations.Labels["zone"] != "a" {
		t.Errorf("updated spec is %v", updated.Spec)
	}
	_, err := m.UpdateNode(m.ctx, &api.UpdateNodeRequest{NodeID: own.ID, NodeVersion: &own.Meta.Version, Spec: &spec})
	refused(t, err, codes.Aborted, "update out of sequence")

	now := m.node(t, own.ID)
	now.Spec.DesiredRole = api.NodeRoleWorker
	_, err = m.UpdateNode(m.ctx, &api.UpdateNodeRequest{NodeID: now.ID, NodeVersion: &now.Meta.Version, Spec: &now.Spec})
	refused(t, err, codes.FailedPrecondition, "attempting to demote the last manager")
	_, err = m.RemoveNode(m.ctx, &api.RemoveNodeRequest{NodeID: now.ID, Force: true})
	refused(t, err, codes.FailedPrecondition, "demoted")
}
