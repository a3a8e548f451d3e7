package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
)

const clusterName = "default"

func (a *app) cluster() *cobra.Command {
	return noun("cluster", "Look at the swarm as a whole, and change its settings", a.clusterList(), a.clusterInspect(), a.clusterUpdate(), a.clusterJoinToken())
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
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			cluster, err := a.clusters(control).find(c.Context(), clusterArg(args))
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

func (a *app) clusterUpdate() *cobra.Command {
	var history int64
	var expiry, heartbeat time.Duration
	var rotate []string
	c := &cobra.Command{
		Use: "update [NAME] [flags]", Short: "Change the swarm's settings", Args: arguments(0, 1),
		Example: `  swarmctl cluster update --heartbeatperiod 2s
  swarmctl cluster update --rotate-join-token worker`,
	}
	flags := c.Flags()
	flags.Int64Var(&history, "taskhistory", 0, "keep `N` tasks of each slot that have ended")
	flags.DurationVar(&heartbeat, "heartbeatperiod", 0, "nodes say every `TIME` that they are there; one that is silent for three is down")
	flags.DurationVar(&expiry, "certexpiry", 0, "certificates of nodes are valid for `TIME`")
	flags.StringSliceVar(&rotate, "rotate-join-token", nil, "make a new join token for `ROLE` worker or manager; the old one is refused from then on")
	logDriver := flags.String("log-driver", "", "log `DRIVER` of tasks that name none")
	logOptions := pairs(flags, "log-opt", "", "option `KEY=VALUE` of that log driver")
	c.RunE = func(c *cobra.Command, args []string) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		cluster, err := a.clusters(control).find(c.Context(), clusterArg(args))
		if err != nil {
			return err
		}
		rotation, err := tokenRotation(rotate)
		if err != nil {
			return err
		}
		spec := proto.CloneOf(cluster.GetSpec())
		for flag, set := range map[string]func(){
			"taskhistory":     func() { orNew(&spec.Orchestration).TaskHistoryRetentionLimit = history },
			"heartbeatperiod": func() { orNew(&spec.Dispatcher).HeartbeatPeriod = durationpb.New(heartbeat) },
			"certexpiry":      func() { orNew(&spec.CaConfig).NodeCertExpiry = durationpb.New(expiry) },
			"log-driver":      func() { orNew(&orNew(&spec.TaskDefaults).LogDriver).Name = *logDriver },
			"log-opt":         func() { orNew(&orNew(&spec.TaskDefaults).LogDriver).Options = *logOptions },
		} {
			if c.Flags().Changed(flag) {
				set()
			}
		}
		if len(rotate) == 0 && proto.Equal(spec, cluster.Spec) {
			return usageError(c, errors.New("no changes detected"))
		}
		r, err := control.UpdateCluster(c.Context(), &api.UpdateClusterRequest{
			ClusterId: cluster.Id, ClusterVersion: cluster.GetMeta().GetVersion(), Spec: spec, Rotation: rotation})
		if err == nil {
			fmt.Fprintln(a.Out, r.Cluster.Id)
		}
		return err
	}
	return c
}

func clusterArg(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return clusterName
}

func tokenRotation(roles []string) (*api.KeyRotation, error) {
	rotation := &api.KeyRotation{}
	for _, role := range roles {
		switch role {
		case "worker":
			rotation.WorkerJoinToken = true
		case "manager":
			rotation.ManagerJoinToken = true
		default:
			return nil, fmt.Errorf("--rotate-join-token: no role %q: choose worker or manager", role)
		}
	}
	return rotation, nil
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
