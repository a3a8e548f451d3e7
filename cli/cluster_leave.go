package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"skep/api/skep"
)

func (a *app) clusterLeave() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "leave", Short: "Take the node of this socket out of the swarm", Args: arguments(0, 0),
		Long: `Take the node of this socket out of the swarm: its tasks are stopped, and what it
has of the swarm on disk is removed.

A manager is demoted first ('swarmctl node demote'), so that the others agree
without it; with --force it leaves at once. When the last manager leaves, the
swarm ends with its services, secrets and certificates.`,
		Example: "  swarmctl cluster leave\n  swarmctl cluster leave --force",
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "also a manager, without asking")
	c.RunE = func(c *cobra.Command, _ []string) error {
		local, err := a.local()
		if err != nil {
			return err
		}
		node, err := local.Status(c.Context(), &skep.StatusRequest{})
		if err != nil {
			return err
		}
		if (node.Manager || node.State == skep.StatusResponse_LOCKED) && !force {
			if force, err = a.mayLeave(c.Context(), node); err != nil {
				return err
			}
		}
		return a.leave(c.Context(), local, force)
	}
	return c
}

// mayLeave asks whether a manager shall leave, if there is somebody to ask.
func (a *app) mayLeave(ctx context.Context, node *skep.StatusResponse) (bool, error) {
	loss, last := a.loss(ctx, node)
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || !terminal(a.Err) {
		next := fmt.Sprintf("Demote it first with 'swarmctl node demote %s', or give --force.", node.NodeId)
		if last {
			next = "If that is what you want, give --force."
		}
		return false, fmt.Errorf("this node is a manager: %s\n%s", loss, next)
	}
	yes, err := confirm(a.In, a.Err, fmt.Sprintf("This node is a manager: %s\nLeave the swarm?", loss))
	switch {
	case err != nil:
		return false, err
	case !yes:
		return false, errors.New("nothing was done")
	}
	return true, nil
}

// loss says what the swarm loses with this manager, and whether it is the last.
func (a *app) loss(ctx context.Context, node *skep.StatusResponse) (text string, last bool) {
	const unknown = "how the others go on without it is not known, since no manager leads."
	if node.State == skep.StatusResponse_LOCKED {
		return "it is locked, and what it has on disk is lost.", true
	}
	insight, err := a.insight()
	if err != nil {
		return unknown, false
	}
	h, err := insight.ClusterHealth(ctx, &skep.ClusterHealthRequest{})
	if err != nil {
		return unknown, false
	}
	return lossOf(h, node.NodeId)
}

// lossOf says what the swarm loses with the manager of a node, and whether it is
// the last.
func lossOf(h *skep.ClusterHealthResponse, nodeID string) (text string, last bool) {
	voters, present, counted := int(h.Voters), 0, false
	for _, m := range h.Managers {
		switch {
		case m.Learner:
		case m.NodeId == nodeID:
			counted = true
		case m.Reachability == skep.ManagerHealth_REACHABLE:
			present++
		}
	}
	if counted {
		voters--
	}
	needed := voters/2 + 1
	switch {
	case voters == 0:
		return "it is the only one. The swarm ends with it: its services, secrets, configs and certificates are lost, and no worker can be reached any more.", true
	case present < needed:
		return fmt.Sprintf("of the %s that are left, %d must be there and only %d can be reached, so nothing could be changed any more.", plural(voters, "manager", "managers"), needed, present), false
	case present == needed && voters == 1:
		return "the only one that is left cannot be lost then.", false
	case present == needed:
		return fmt.Sprintf("the %d that are left cannot lose another one then.", voters), false
	}
	return fmt.Sprintf("the %d that are left can lose %d then.", voters, present-needed), false
}

// confirm asks a question to which no is the answer unless yes is typed.
func confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// leave asks the node to leave and tells what it is busy with.
func (a *app) leave(ctx context.Context, local skep.LocalClient, force bool) error {
	stream, err := local.Leave(ctx, &skep.LeaveRequest{Force: force})
	if err != nil {
		return err
	}
	p := newReporter(a.Err, "leave")
	for {
		m, err := stream.Recv()
		if err != nil {
			p.end()
		}
		switch {
		case errors.Is(err, io.EOF):
			fmt.Fprintln(a.Out, "This node has left the swarm.")
			return nil
		case ctx.Err() != nil:
			return exitf(ExitInterrupted, "interrupted; the node goes on leaving")
		case err != nil:
			return err
		}
		p.report(step{text: m.Message})
	}
}
