package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api/skep"
)

func (a *app) clusterHealth() *cobra.Command {
	return &cobra.Command{
		Use: "health", Short: "Say whether the swarm can lose a manager, and what is wrong", Args: arguments(0, 0),
		Long: `Say whether the swarm can lose a manager, and what is wrong.

The exit status is 0 when all is as well as this number of managers allows, 3
when three managers or more can lose none, and 7 when nothing can be changed
because no manager leads.`,
		Example: "  swarmctl cluster health\n  swarmctl cluster health -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			insight, err := a.insight()
			if err != nil {
				return err
			}
			health, err := insight.ClusterHealth(c.Context(), &skep.ClusterHealthRequest{})
			if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
				health = a.leaderless(c.Context(), err)
			}
			if health == nil {
				return err
			}
			if err := a.printHealth(time.Now(), health); err != nil {
				return err
			}
			switch health.State {
			case skep.ClusterHealthResponse_CRITICAL:
				return exitf(ExitFailed, "")
			case skep.ClusterHealthResponse_NO_QUORUM:
				return exitf(ExitUnavailable, "")
			}
			return nil
		},
	}
}

// leaderless is what can be said when no manager leads: what this one knows, and
// why. It is nil when this one does not answer either.
func (a *app) leaderless(ctx context.Context, reason error) *skep.ClusterHealthResponse {
	local, err := a.local()
	if err != nil {
		return nil
	}
	node, err := local.Status(ctx, &skep.StatusRequest{})
	if err != nil {
		return nil
	}
	h := &skep.ClusterHealthResponse{
		State:   skep.ClusterHealthResponse_NO_QUORUM,
		Verdict: "The swarm cannot be changed: no manager leads it.",
		Problems: []*skep.Problem{{
			Severity: skep.Problem_CRITICAL, What: "no manager leads", Why: a.text(reason),
			Next: "start the managers that are missing; if they are lost for good, start one that is left with 'swarmd --force-new-cluster'",
		}},
	}
	if node.State == skep.StatusResponse_LOCKED {
		h.Verdict = "This manager is locked."
		h.Problems[0].What, h.Problems[0].Next = "this manager cannot read what it has on disk", "give it the unlock key: 'swarmctl cluster unlock'"
	}
	if node.Addr != "" {
		h.Managers = append(h.Managers, &skep.ManagerHealth{NodeId: node.NodeId, Addr: node.Addr, Version: node.Version, Reachability: skep.ManagerHealth_REACHABLE})
	}
	for _, addr := range node.Managers {
		if addr != node.Addr {
			h.Managers = append(h.Managers, &skep.ManagerHealth{Addr: addr})
		}
	}
	if node.Message != "" {
		h.Problems = append(h.Problems, &skep.Problem{Severity: skep.Problem_NOTE, What: "this node says what it waits for", Why: node.Message})
	}
	return h
}

// printHealth prints one screen, or JSON.
func (a *app) printHealth(now time.Time, h *skep.ClusterHealthResponse) error {
	if a.format == "json" {
		data, err := marshalJSON(h)
		if err == nil {
			_, err = fmt.Fprintf(a.Out, "%s\n", data)
		}
		return err
	}
	fmt.Fprintln(a.Out, h.Verdict)
	if len(h.Managers) > 0 {
		fmt.Fprintln(a.Out)
		if err := rows(a, h.Managers, healthColumns(now)); err != nil {
			return err
		}
	}
	if p := h.RootRotation; p != nil {
		fmt.Fprintf(a.Out, "\nThe root certificate is being replaced: %s\n", rotationText(p, true))
	}
	for _, p := range h.Problems {
		fmt.Fprintf(a.Out, "\n%s: %s\n", severity(p.Severity), p.What)
		if p.Why != "" {
			fmt.Fprintf(a.Out, "  why:  %s\n", indent(p.Why))
		}
		if p.Next != "" {
			fmt.Fprintf(a.Out, "  next: %s\n", indent(p.Next))
		}
	}
	return nil
}

func healthColumns(now time.Time) []column[*skep.ManagerHealth] {
	return []column[*skep.ManagerHealth]{
		{"HOSTNAME", func(m *skep.ManagerHealth) string { return cmp.Or(m.Hostname, m.NodeId, "(unknown)") }},
		{"STATUS", func(m *skep.ManagerHealth) string { return healthStatus(now, m) }},
		{"ADDRESS", (*skep.ManagerHealth).GetAddr},
		{"BEHIND", func(m *skep.ManagerHealth) string {
			if m.RaftId == 0 { // nothing is known of its log
				return ""
			}
			return strconv.FormatUint(m.Behind, 10)
		}},
		{"CERTIFICATE", func(m *skep.ManagerHealth) string { return until(now, m.CertificateExpiresAt) }},
		{"VERSION", (*skep.ManagerHealth).GetVersion},
	}
}

func healthStatus(now time.Time, m *skep.ManagerHealth) string {
	var s string
	switch {
	case m.Leader:
		s = "Leader"
	case m.Reachability == skep.ManagerHealth_REACHABLE:
		s = "Reachable"
	case m.Reachability == skep.ManagerHealth_UNREACHABLE:
		s = "Unreachable"
		if m.UnreachableSince != nil {
			s += " (" + age(now, m.UnreachableSince) + ")"
		}
	default:
		s = "Unknown"
	}
	if m.Learner {
		s += ", catches up"
	}
	return s
}

// until says when a certificate ends: "89 days left".
func until(now time.Time, t *timestamppb.Timestamp) string {
	switch {
	case t == nil:
		return ""
	case !t.AsTime().After(now):
		return "expired"
	}
	return strings.TrimSuffix(age(t.AsTime(), timestamppb.New(now)), " ago") + " left"
}

func severity(s skep.Problem_Severity) string {
	if s == skep.Problem_UNKNOWN {
		return "Problem"
	}
	return title(s)
}

// indent keeps what has several lines below where it began.
func indent(text string) string {
	return strings.Join(slices.Collect(strings.Lines(text)), "        ")
}
