package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"skep/api"
	"skep/api/skep"
)

const clusterName = "default"

func (a *app) cluster() *cobra.Command {
	return noun("cluster", "Look at the swarm as a whole, and change its settings",
		a.clusterHealth(), a.clusterInspect(), a.clusterList(), a.clusterUpdate(), a.clusterJoinToken(),
		a.clusterRotateCA(), a.clusterUnlockKey(), a.clusterUnlock(), a.clusterLeave())
}

func (a *app) clusters(control api.ControlClient) finder[*api.Cluster] {
	return finder[*api.Cluster]{
		kind: "cluster",
		name: func(c *api.Cluster) string { return c.GetSpec().GetAnnotations().GetName() },
		get: func(ctx context.Context, id string) (*api.Cluster, error) {
			r, err := control.GetCluster(ctx, &api.GetClusterRequest{ClusterId: id})
			return r.GetCluster(), err
		},
		list: func(ctx context.Context, q query) ([]*api.Cluster, error) {
			r, err := control.ListClusters(ctx, &api.ListClustersRequest{Filters: &api.ListClustersRequest_Filters{
				Names: q.names, NamePrefixes: q.namePrefixes, IdPrefixes: q.idPrefixes}})
			return r.GetClusters(), err
		},
	}
}

func (a *app) clusterList() *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the swarm", Args: arguments(0, 0),
		Example: "  swarmctl cluster ls\n  swarmctl cluster ls -q",
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			r, err := control.ListClusters(c.Context(), &api.ListClustersRequest{})
			if err != nil {
				return err
			}
			return list(a, quiet, r.Clusters, []column[*api.Cluster]{
				{"ID", (*api.Cluster).GetId},
				{"NAME", func(c *api.Cluster) string { return c.GetSpec().GetAnnotations().GetName() }},
			})
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return c
}

func (a *app) clusterInspect() *cobra.Command {
	return &cobra.Command{
		Use: "inspect [NAME]", Short: "Show the swarm's settings", Args: arguments(0, 1),
		Example: "  swarmctl cluster inspect\n  swarmctl cluster inspect -o json",
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			cluster, err := a.clusters(control).find(c.Context(), clusterArg(args))
			if err != nil {
				return err
			}
			if a.format == "json" {
				return inspect(a, cluster, nil)
			}
			r, err := control.ListNodes(c.Context(), &api.ListNodesRequest{Filters: &api.ListNodesRequest_Filters{Roles: []api.NodeRole{api.NodeRole_MANAGER}}})
			if err != nil {
				return err
			}
			rotation := a.rotation(c.Context(), cluster)
			return inspect(a, cluster, func(s *summary) { summarizeCluster(s, cluster, r.Nodes, rotation) })
		},
	}
}

// rotation says how far the replacement of the root certificate is; "" when there
// is none.
func (a *app) rotation(ctx context.Context, c *api.Cluster) string {
	if c.GetRootCa().GetRootRotation() == nil {
		return ""
	}
	insight, err := a.insight()
	if err != nil {
		return "under way"
	}
	h, err := insight.ClusterHealth(ctx, &skep.ClusterHealthRequest{})
	if err != nil || h.RootRotation == nil { // it may have ended just now
		return "under way"
	}
	return rotationText(h.RootRotation, true)
}

func summarizeCluster(s *summary, c *api.Cluster, managers []*api.Node, rotation string) {
	spec := c.GetSpec()
	s.line("ID", c.Id)
	s.line("Name", spec.GetAnnotations().GetName())
	s.linef("Task history", "%d", spec.GetOrchestration().GetTaskHistoryRetentionLimit())
	if p := spec.GetDispatcher().GetHeartbeatPeriod(); p != nil {
		s.line("Heartbeat period", p.AsDuration().String())
	}
	if e := spec.GetCaConfig().GetNodeCertExpiry(); e != nil {
		s.line("Certificate validity", e.AsDuration().String())
	}
	for _, ca := range spec.GetCaConfig().GetExternalCas() {
		s.line("External CA", ca.Url)
	}
	s.line("Root certificate", c.GetRootCa().GetCaCertHash())
	s.line("Root rotation", rotation)
	if r := spec.GetRaft(); r != nil {
		s.linef("Snapshot interval", "%d", r.SnapshotInterval)
		s.linef("Entries kept", "%d", r.LogEntriesForSlowFollowers)
		if r.HeartbeatTick != 0 || r.ElectionTick != 0 {
			s.linef("Raft ticks", "heartbeat %d, election %d (for stock managers; those of this release keep their own)", r.HeartbeatTick, r.ElectionTick)
		}
	}
	locked := "no"
	if spec.GetEncryptionConfig().GetAutoLockManagers() {
		locked = "yes"
	}
	s.line("Autolock", locked)
	slices.SortFunc(managers, func(x, y *api.Node) int { return strings.Compare(nodeName(x), nodeName(y)) })
	for _, n := range managers {
		s.line("Manager", strings.Join(slices.DeleteFunc([]string{nodeName(n), n.GetManagerStatus().GetAddr(), managerStatus(n)},
			func(word string) bool { return word == "" }), " "))
	}
	s.line("Default log driver", spec.GetTaskDefaults().GetLogDriver().GetName())
	s.line("Join token (worker)", c.GetRootCa().GetJoinTokens().GetWorker())
	s.line("Join token (manager)", c.GetRootCa().GetJoinTokens().GetManager())
}

func clusterArg(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return clusterName
}

// orNew returns what p points to, made if there is none.
func orNew[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func (a *app) clusterJoinToken() *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use: "join-token worker|manager", Short: "Print the command that joins a machine",
		Args: arguments(1, 1), ValidArgs: []string{"worker", "manager"},
		Example: "  swarmctl cluster join-token worker\n  TOKEN=$(swarmctl cluster join-token -q worker)",
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			cluster, err := a.clusters(control).find(c.Context(), clusterName)
			if err != nil {
				return err
			}
			var token string
			switch tokens := cluster.GetRootCa().GetJoinTokens(); args[0] {
			case "worker":
				token = tokens.GetWorker()
			case "manager":
				token = tokens.GetManager()
			default:
				return fmt.Errorf("no role %q: choose worker or manager", args[0])
			}
			if quiet {
				fmt.Fprintln(a.Out, token)
				return nil
			}
			addr, err := managerAddress(c.Context(), control)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "swarmd --join-addr %s --join-token %s\n", addr, token)
			return nil
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the token only")
	return c
}

// managerAddress is where a new node joins: the leader's, else that of a manager
// that is reachable, else any manager's.
func managerAddress(ctx context.Context, control api.ControlClient) (string, error) {
	r, err := control.ListNodes(ctx, &api.ListNodesRequest{})
	if err != nil {
		return "", err
	}
	var leader, reachable, other string
	for _, n := range r.Nodes {
		switch m := n.ManagerStatus; {
		case m.GetLeader():
			leader = m.Addr
		case m.GetReachability() == api.RaftMemberStatus_REACHABLE:
			reachable = m.Addr
		case m.GetAddr() != "":
			other = m.Addr
		}
	}
	return cmp.Or(leader, reachable, other, "MANAGER:4242"), nil
}
