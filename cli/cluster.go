package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"skep/api"
)

const clusterName = "default"

func (a *app) cluster() *cobra.Command {
	return noun("cluster", "Look at the swarm as a whole", a.clusterList(), a.clusterInspect(), a.clusterJoinToken())
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
		Use: "ls", Aliases: []string{"list"}, Short: "List the swarm", Args: cobra.NoArgs,
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
		Use: "inspect [NAME]", Short: "Show the swarm's settings", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			name := clusterName
			if len(args) == 1 {
				name = args[0]
			}
			cluster, err := a.clusters(control).find(c.Context(), name)
			if err != nil {
				return err
			}
			return inspect(a, cluster, func(s *summary) { summarizeCluster(s, cluster) })
		},
	}
}

func summarizeCluster(s *summary, c *api.Cluster) {
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
	s.line("Default log driver", spec.GetTaskDefaults().GetLogDriver().GetName())
	s.line("Join token (worker)", c.GetRootCa().GetJoinTokens().GetWorker())
	s.line("Join token (manager)", c.GetRootCa().GetJoinTokens().GetManager())
}

func (a *app) clusterJoinToken() *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use: "join-token worker|manager", Short: "Print the command that joins a machine",
		Args: cobra.ExactArgs(1), ValidArgs: []string{"worker", "manager"},
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

// managerAddress is where a new node joins: the leader's, else any manager's.
func managerAddress(ctx context.Context, control api.ControlClient) (string, error) {
	r, err := control.ListNodes(ctx, &api.ListNodesRequest{})
	if err != nil {
		return "", err
	}
	var leader, other string
	for _, n := range r.Nodes {
		switch m := n.ManagerStatus; {
		case m.GetLeader():
			leader = m.Addr
		case m.GetAddr() != "":
			other = m.Addr
		}
	}
	return cmp.Or(leader, other, "MANAGER:4242"), nil
}
