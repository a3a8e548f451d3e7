package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/api/skep"
)

func (a *app) nodePromote() *cobra.Command {
	var waiting waitFlags
	c := &cobra.Command{
		Use: "promote NODE…", Short: "Make nodes managers, and wait until they vote", Args: arguments(1, -1),
		Long: `Make nodes managers, and wait until they vote.

A new manager first catches up with the others, and votes once it has. Three
managers can lose one, five can lose two; an even number adds nothing.`,
		Example: "  swarmctl node promote two three\n  swarmctl node promote two --detach",
	}
	waiting.registerDetach(c.Flags())
	waiting.registerTimeout(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		// All of them are asked for before any is waited for: they catch up side by side.
		var asked []*api.Node
		err = each(c.Context(), a, a.nodes(control), args, func(n *api.Node) error {
			if err := setRole(c.Context(), control, n, api.NodeRole_MANAGER); err != nil {
				return err
			}
			asked = append(asked, n)
			return nil
		})
		for _, n := range asked {
			if failed := a.awaitRole(c.Context(), control, n, waiting, "is a manager that votes", a.promoted); failed != nil && err == nil {
				err = failed
			} else if failed != nil {
				fmt.Fprintln(a.Err, "Error:", a.text(failed))
			}
		}
		return err
	}
	return c
}

func (a *app) nodeDemote() *cobra.Command {
	var waiting waitFlags
	c := &cobra.Command{
		Use: "demote NODE…", Short: "Make managers workers, and wait until they are", Args: arguments(1, -1),
		Long: `Make managers workers, and wait until they are.

A manager that leads hands over to another first. Several are demoted one after
another, so that the others can agree on each.`,
		Example: "  swarmctl node demote three",
	}
	waiting.registerDetach(c.Flags())
	waiting.registerTimeout(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		return each(c.Context(), a, a.nodes(control), args, func(n *api.Node) error {
			if err := setRole(c.Context(), control, n, api.NodeRole_WORKER); err != nil {
				return err
			}
			return a.awaitRole(c.Context(), control, n, waiting, "is a worker", a.demoted)
		})
	}
	return c
}

// setRole asks for a role, unless that was asked for and is under way.
func setRole(ctx context.Context, control api.ControlClient, n *api.Node, role api.NodeRole) error {
	switch asked := n.GetSpec().GetDesiredRole() == role; {
	case asked && n.Role == role && (role == api.NodeRole_WORKER || n.ManagerStatus != nil):
		return fmt.Errorf("node %s is already a %s", nodeName(n), roleName(role))
	case asked:
		return nil
	}
	return editNode(ctx, control, n, func(s *api.NodeSpec) { s.DesiredRole = role })
}

func roleName(role api.NodeRole) string {
	if role == api.NodeRole_MANAGER {
		return "manager"
	}
	return "worker"
}

// awaitRole waits until look finds that n has become what was asked.
func (a *app) awaitRole(ctx context.Context, control api.ControlClient, n *api.Node, flags waitFlags, what string,
	look func(context.Context, api.ControlClient, *api.Node) (step, error)) error {
	if flags.detach {
		return nil
	}
	name := nodeName(n)
	return a.await(ctx, operation{
		name: name, what: "node " + name + " " + what, see: "swarmctl node inspect " + name, flags: flags,
		look: func(ctx context.Context) (step, error) { return look(ctx, control, n) },
	})
}

// currentNode reads n again.
func currentNode(ctx context.Context, control api.ControlClient, n *api.Node) (*api.Node, error) {
	r, err := control.GetNode(ctx, &api.GetNodeRequest{NodeId: n.Id})
	if status.Code(err) == codes.NotFound {
		return nil, exitf(ExitNotFound, "node %s was removed meanwhile", nodeName(n))
	}
	return r.GetNode(), err
}

// promoted says how far n is on its way to a manager that votes.
func (a *app) promoted(ctx context.Context, control api.ControlClient, n *api.Node) (step, error) {
	n, err := currentNode(ctx, control, n)
	if err != nil {
		return step{}, err
	}
	switch m := n.ManagerStatus; {
	case n.GetSpec().GetDesiredRole() != api.NodeRole_MANAGER:
		return step{}, exitf(ExitFailed, "node %s was demoted meanwhile", nodeName(n))
	case n.GetStatus().GetState() == api.NodeStatus_DOWN:
		return step{text: "waits for the node: it is down"}, nil
	case n.Role != api.NodeRole_MANAGER:
		return step{text: "gets the certificate of a manager"}, nil
	case m == nil:
		return step{text: "joins the other managers"}, nil
	case m.Reachability != api.RaftMemberStatus_REACHABLE && !m.Leader:
		return step{text: "has joined; the leader does not reach it at " + m.Addr}, nil
	}
	insight, err := a.insight()
	if err != nil {
		return step{}, err
	}
	health, err := insight.ClusterHealth(ctx, &skep.ClusterHealthRequest{})
	switch {
	case absent(err): // another's manager, without learners
		return step{text: "is a manager", reached: true}, nil
	case err != nil:
		return step{}, err
	}
	for _, m := range health.Managers {
		if m.NodeId == n.Id && !m.Learner {
			return step{text: "is a manager and votes", reached: true}, nil
		}
		if m.NodeId == n.Id && m.Behind > 0 {
			return step{text: fmt.Sprintf("catches up: %s to go", plural(m.Behind, "entry", "entries"))}, nil
		}
	}
	return step{text: "catches up"}, nil
}

// demoted says how far n is on its way to a worker.
func (a *app) demoted(ctx context.Context, control api.ControlClient, n *api.Node) (step, error) {
	now, err := currentNode(ctx, control, n)
	if status.Code(err) == codes.FailedPrecondition {
		// It may be the node whose socket this is: a worker does not answer that.
		if local, problem := a.local(); problem == nil {
			if r, problem := local.Status(ctx, &skep.StatusRequest{}); problem == nil && r.NodeId == n.Id && !r.Manager {
				return step{text: "is a worker", reached: true}, nil
			}
		}
	}
	if err != nil {
		return step{}, err
	}
	switch m := now.ManagerStatus; {
	case now.GetSpec().GetDesiredRole() != api.NodeRole_WORKER:
		return step{}, exitf(ExitFailed, "node %s was promoted meanwhile", nodeName(n))
	case m.GetLeader():
		return step{text: "hands over the lead"}, nil
	case m != nil:
		return step{text: "leaves the other managers"}, nil
	case now.Role != api.NodeRole_WORKER:
		return step{text: "has left the other managers"}, nil
	}
	return step{text: "is a worker", reached: true}, nil
}

// plural is "1 entry" or "5 entries".
func plural[N int | uint32 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
