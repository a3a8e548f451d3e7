package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

func (a *app) node() *cobra.Command {
	return noun("node", "Manage nodes",
		a.nodeList(), a.nodeInspect(), a.nodeUpdate(), a.nodeRemove(),
		a.nodeAvailability("activate", "Let nodes take tasks", "active", api.NodeSpec_ACTIVE),
		a.nodeAvailability("pause", "Keep the tasks of nodes but give them no new ones", "paused", api.NodeSpec_PAUSE),
		a.nodePromote(), a.nodeDemote(),
		a.nodeAvailability("drain", "Move the tasks of nodes elsewhere", "drained", api.NodeSpec_DRAIN),
	)
}

func (a *app) nodes(control api.ControlClient) finder[*api.Node] {
	return finder[*api.Node]{
		kind: "node",
		name: nodeName,
		get: func(ctx context.Context, id string) (*api.Node, error) {
			r, err := control.GetNode(ctx, &api.GetNodeRequest{NodeId: id})
			return r.GetNode(), err
		},
		list: func(ctx context.Context, q query) ([]*api.Node, error) {
			r, err := control.ListNodes(ctx, &api.ListNodesRequest{Filters: &api.ListNodesRequest_Filters{
				Names: q.names, NamePrefixes: q.namePrefixes, IdPrefixes: q.idPrefixes}})
			return r.GetNodes(), err
		},
	}
}

func nodeName(n *api.Node) string {
	return cmp.Or(n.GetDescription().GetHostname(), n.GetSpec().GetAnnotations().GetName(), n.Id)
}

func nodeNames(ctx context.Context, control api.ControlClient) (map[string]string, error) {
	r, err := control.ListNodes(ctx, &api.ListNodesRequest{})
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(r.Nodes))
	for _, n := range r.Nodes {
		names[n.Id] = nodeName(n)
	}
	return names, nil
}

func (a *app) nodeList() *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List nodes", Args: arguments(0, 0),
		Example: "  swarmctl node ls\n  swarmctl node ls -q",
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			r, err := control.ListNodes(c.Context(), &api.ListNodesRequest{})
			if err != nil {
				return err
			}
			slices.SortStableFunc(r.Nodes, func(x, y *api.Node) int { return strings.Compare(nodeName(x), nodeName(y)) })
			return list(a, quiet, r.Nodes, []column[*api.Node]{
				{"ID", (*api.Node).GetId},
				{"HOSTNAME", nodeName},
				{"STATUS", func(n *api.Node) string { return title(n.GetStatus().GetState()) }},
				{"AVAILABILITY", func(n *api.Node) string { return title(n.GetSpec().GetAvailability()) }},
				{"ROLE", func(n *api.Node) string { return title(n.Role) }},
				{"MANAGER STATUS", managerStatus},
				{"ADDRESS", func(n *api.Node) string { return n.GetStatus().GetAddr() }},
			})
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return c
}

func managerStatus(n *api.Node) string {
	m := n.ManagerStatus
	switch {
	case m == nil:
		return ""
	case m.Leader:
		return "Leader"
	}
	return title(m.Reachability)
}

func (a *app) nodeInspect() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "inspect NODE", Short: "Show one node and its tasks", Args: arguments(1, 1),
		Example: "  swarmctl node inspect host-1\n  swarmctl node inspect host-1 --all",
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			n, err := a.nodes(control).find(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := inspect(a, n, func(s *summary) { summarizeNode(s, n) }); err != nil || a.format == "json" {
				return err
			}
			r, err := control.ListTasks(c.Context(), &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{NodeIds: []string{n.Id}}})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out)
			return a.printTasks(c.Context(), control, current(r.Tasks, all), false)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also tasks that have ended")
	return c
}

func summarizeNode(s *summary, n *api.Node) {
	d := n.GetDescription()
	s.line("ID", n.Id)
	s.line("Hostname", d.GetHostname())
	s.line("Status", title(n.GetStatus().GetState()))
	s.line("Status message", n.GetStatus().GetMessage())
	s.line("Address", n.GetStatus().GetAddr())
	s.line("Availability", title(n.GetSpec().GetAvailability()))
	s.line("Role", title(n.Role))
	if m := n.ManagerStatus; m != nil {
		s.line("Manager status", managerStatus(n))
		s.line("Manager address", m.Addr)
	}
	s.labels("Label", n.GetSpec().GetAnnotations().GetLabels())
	s.line("Platform", strings.Trim(d.GetPlatform().GetOs()+"/"+d.GetPlatform().GetArchitecture(), "/"))
	if r := d.GetResources(); r != nil {
		s.linef("CPUs", "%g", float64(r.NanoCpus)/1e9)
		s.line("Memory", bytesText(r.MemoryBytes))
		for _, g := range r.Generic {
			s.line("Generic resource", genericText(g))
		}
	}
	s.line("Engine version", d.GetEngine().GetEngineVersion())
	for _, p := range d.GetEngine().GetPlugins() {
		s.line("Plugin", p.Type+"/"+p.Name)
	}
	s.labels("Engine label", d.GetEngine().GetLabels())
}

func genericText(g *api.GenericResource) string {
	if d := g.GetDiscreteResourceSpec(); d != nil {
		return fmt.Sprintf("%s=%d", d.Kind, d.Value)
	}
	return g.GetNamedResourceSpec().GetKind() + "=" + g.GetNamedResourceSpec().GetValue()
}

// editNode changes the spec of a node that has not changed since it was read.
func editNode(ctx context.Context, control api.ControlClient, n *api.Node, edit func(*api.NodeSpec)) error {
	spec := proto.CloneOf(n.GetSpec())
	if spec == nil {
		spec = &api.NodeSpec{}
	}
	edit(spec)
	_, err := control.UpdateNode(ctx, &api.UpdateNodeRequest{NodeId: n.Id, NodeVersion: n.GetMeta().GetVersion(), Spec: spec})
	return err
}

func (a *app) nodeAvailability(verb, short, already string, want api.NodeSpec_Availability) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NODE…", Short: short, Args: arguments(1, -1),
		Example: "  swarmctl node " + verb + " host-1 host-2",
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			return each(c.Context(), a, a.nodes(control), args, func(n *api.Node) error {
				if n.GetSpec().GetAvailability() == want {
					return fmt.Errorf("node %s is already %s", nodeName(n), already)
				}
				return editNode(c.Context(), control, n, func(s *api.NodeSpec) { s.Availability = want })
			})
		},
	}
}

func (a *app) nodeUpdate() *cobra.Command {
	var replace, add *map[string]string
	var remove []string
	c := &cobra.Command{
		Use: "update NODE", Short: "Change a node's labels", Args: arguments(1, 1),
		Example: "  swarmctl node update host-1 --label-add zone=a --label-rm old",
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			n, err := a.nodes(control).find(c.Context(), args[0])
			if err != nil {
				return err
			}
			if !c.Flags().Changed("label") && len(*add) == 0 && len(remove) == 0 {
				return fmt.Errorf("nothing to change: give --label-add, --label-rm or --label")
			}
			return editNode(c.Context(), control, n, func(s *api.NodeSpec) {
				if s.Annotations == nil {
					s.Annotations = &api.Annotations{}
				}
				if c.Flags().Changed("label") {
					s.Annotations.Labels = *replace
				}
				editLabels(&s.Annotations.Labels, *add, remove)
			})
		},
	}
	add = pairs(c.Flags(), "label-add", "", "add or change a label `KEY=VALUE`")
	c.Flags().StringSliceVar(&remove, "label-rm", nil, "remove a label `KEY`")
	replace = pairs(c.Flags(), "label", "", "replace all labels by `KEY=VALUE`")
	return c
}

func editLabels(labels *map[string]string, add map[string]string, remove []string) {
	for key, value := range add {
		if *labels == nil {
			*labels = map[string]string{}
		}
		(*labels)[key] = value
	}
	for _, key := range remove {
		delete(*labels, key)
	}
}

func (a *app) nodeRemove() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "rm NODE…", Aliases: []string{"remove"}, Short: "Remove nodes that have left or are down", Args: arguments(1, -1),
		Long: `Remove nodes that have left or are down.

A manager is demoted first, also one that is down: it leaves the group of
managers then, and can be removed as a worker.`,
		Example: "  swarmctl node rm host-1\n  swarmctl node demote host-2 && swarmctl node rm host-2",
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			return each(c.Context(), a, a.nodes(control), args, func(n *api.Node) error {
				_, err := control.RemoveNode(c.Context(), &api.RemoveNodeRequest{NodeId: n.Id, Force: force})
				if err == nil {
					fmt.Fprintln(a.Out, n.Id)
				}
				return err
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also a node that is ready")
	return c
}
