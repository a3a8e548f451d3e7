package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
)

// stall is how long a rotation may stand still before nodes are named that give
// no reason.
const stall = 10 * time.Second

// namedNodes is how many nodes a line of progress names.
const namedNodes = 3

func (a *app) clusterRotateCA() *cobra.Command {
	var certFile, keyFile string
	var external []string
	var cancel bool
	var waiting waitFlags
	c := &cobra.Command{
		Use: "rotate-ca [NAME] [flags]", Short: "Replace the root certificate, and wait until every node has a new one", Args: arguments(0, 1),
		Long: `Replace the root certificate, and wait until every node has a certificate of the
new one; then print its digest.

With no flags the swarm makes the new root itself. Nodes and tasks go on
meanwhile. A node that is down holds it up until it is back or removed. Join
tokens are made anew with the root: ask 'swarmctl cluster join-token' for them.`,
		Example: `  swarmctl cluster rotate-ca
  swarmctl cluster rotate-ca --ca-cert root.pem --ca-key root.key
  swarmctl cluster rotate-ca --ca-cert root.pem --external-ca protocol=cfssl,url=https://ca.example.com/sign,cacert=root.pem
  swarmctl cluster rotate-ca --cancel`,
	}
	c.Flags().StringVar(&certFile, "ca-cert", "", "rotate to the root in `FILE`, PEM")
	c.Flags().StringVar(&keyFile, "ca-key", "", "its key in `FILE`, PEM; not needed with --external-ca")
	c.Flags().StringArrayVar(&external, "external-ca", nil, "have certificates signed by `CA`: protocol=cfssl,url=URL[,cacert=FILE][,KEY=VALUE]")
	c.Flags().BoolVar(&cancel, "cancel", false, "go back to the root that is being replaced")
	waiting.registerDetach(c.Flags())
	waiting.registerTimeout(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case cancel && (certFile != "" || len(external) > 0):
			return usageError(c, errors.New("--cancel goes back to the root that is there: --ca-cert and --external-ca exclude it"))
		case keyFile != "" && certFile == "" && !cancel:
			return usageError(c, errors.New("--ca-key is the key of --ca-cert: give both"))
		}
		control, err := a.control()
		if err != nil {
			return err
		}
		cluster, err := a.clusters(control).find(c.Context(), clusterArg(args))
		if err != nil {
			return err
		}
		spec := proto.CloneOf(cluster.GetSpec())
		if spec == nil {
			spec = &api.ClusterSpec{}
		}
		config := orNew(&spec.CaConfig)
		if c.Flags().Changed("external-ca") {
			if config.ExternalCas, err = parseExternalCAs(external); err != nil {
				return err
			}
		}
		if keyFile != "" {
			if config.SigningCaKey, err = os.ReadFile(keyFile); err != nil {
				return fmt.Errorf("--ca-key: %w", err)
			}
		}
		switch {
		case cancel && cluster.GetRootCa().GetRootRotation() == nil:
			return errors.New("there is nothing to cancel: the root certificate is not being replaced")
		case cancel:
			config.SigningCaCert = cluster.GetRootCa().GetCaCert()
		case certFile != "":
			if config.SigningCaCert, err = os.ReadFile(certFile); err != nil {
				return fmt.Errorf("--ca-cert: %w", err)
			}
		default:
			config.ForceRotate++
		}
		updated, err := a.updateCluster(c.Context(), control, cluster, spec, nil)
		if err != nil {
			return err
		}
		return a.finishRotation(c.Context(), updated, waiting)
	}
	return c
}

// finishRotation waits until the root is what an update asked for, and prints its
// digest.
func (a *app) finishRotation(ctx context.Context, c *api.Cluster, flags waitFlags) error {
	rotation := c.GetRootCa().GetRootRotation()
	if rotation == nil { // nothing to wait for: the root stays, or was changed at once
		fmt.Fprintln(a.Out, c.GetRootCa().GetCaCertHash())
		return nil
	}
	target := ca.HashOf(rotation.GetCaCert())
	if flags.detach {
		fmt.Fprintln(a.Out, target)
		return nil
	}
	insight, err := a.insight()
	if err != nil {
		return err
	}
	r := rotating{target: target, since: time.Now()}
	err = a.await(ctx, operation{
		name: "root certificate", what: "every node has a certificate of the new root", see: "swarmctl cluster health", flags: flags,
		look: func(ctx context.Context) (step, error) {
			h, err := insight.ClusterHealth(ctx, &skep.ClusterHealthRequest{})
			if err != nil {
				return step{}, err
			}
			return r.look(time.Now(), h)
		},
	})
	switch {
	case absent(err):
		return exitf(ExitError, "the root certificate is being replaced, but this manager does not say how far it is: %s\nSee 'swarmctl cluster inspect'.", status.Convert(err).Message())
	case err == nil:
		fmt.Fprintln(a.Out, target)
	}
	return err
}

// rotating is a rotation that is waited for.
type rotating struct {
	target string
	// have nodes had their certificate at since, which was news.
	have  uint32
	since time.Time
}

// look says how far it is at now.
func (r *rotating) look(now time.Time, h *skep.ClusterHealthResponse) (step, error) {
	p := h.GetRootRotation()
	switch {
	case p == nil && h.GetRootDigest() == r.target:
		return step{text: "every node has a certificate of the new root", done: 1, all: 1, reached: true}, nil
	case p == nil:
		return step{}, exitf(ExitFailed, "the rotation was cancelled meanwhile: the root certificate is %s still", h.GetRootDigest())
	case p.RootDigest != r.target:
		return step{}, exitf(ExitFailed, "another rotation has replaced this one: it goes to root certificate %s", p.RootDigest)
	}
	if p.Converged != r.have {
		r.have, r.since = p.Converged, now
	}
	return step{text: rotationText(p, now.Sub(r.since) >= stall), done: int(p.Converged), all: int(p.Nodes)}, nil
}

// rotationText says how far a rotation is, and which nodes have a reason to take
// long; with all, also others that are waited for.
func rotationText(p *skep.RootRotationProgress, all bool) string {
	text := fmt.Sprintf("%d/%d nodes have certificates of the new root", p.Converged, p.Nodes)
	var names []string
	for _, n := range p.Waiting {
		name := cmp.Or(n.Hostname, n.NodeId)
		switch {
		case len(names) == namedNodes:
		case n.Reason != "":
			names = append(names, fmt.Sprintf("%s (%s)", name, n.Reason))
		case all:
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return text
	}
	text += "; waits for " + strings.Join(names, ", ")
	if more := int(p.Nodes-p.Converged) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
