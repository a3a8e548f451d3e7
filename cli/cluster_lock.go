package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
)

// unlockVariable is the environment variable that may hold the unlock key.
const unlockVariable = "SWARM_UNLOCK_KEY"

func (a *app) clusterUnlockKey() *cobra.Command {
	var quiet, rotate bool
	c := &cobra.Command{
		Use: "unlock-key [NAME]", Short: "Print the key that unlocks managers when they start", Args: arguments(0, 1),
		Long: `Print the key that unlocks managers when they start.

Managers are locked once 'swarmctl cluster update --autolock' was said. Keep the
key where no manager's disk is: without it, a manager that was stopped cannot
start again. A key that was replaced still unlocks managers that have not heard
of the new one.`,
		Example: "  swarmctl cluster unlock-key\n  swarmctl cluster unlock-key -q --rotate > key",
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the key only")
	c.Flags().BoolVar(&rotate, "rotate", false, "make a new key first")
	c.RunE = func(c *cobra.Command, args []string) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		cluster, err := a.clusters(control).find(c.Context(), clusterArg(args))
		if err != nil {
			return err
		}
		if !cluster.GetSpec().GetEncryptionConfig().GetAutoLockManagers() {
			return errors.New("there is no unlock key: managers are not locked; 'swarmctl cluster update --autolock' locks them and prints it")
		}
		if rotate {
			_, err := a.updateCluster(c.Context(), control, cluster, proto.CloneOf(cluster.Spec), &api.KeyRotation{ManagerUnlockKey: true})
			if err != nil {
				return err
			}
		}
		return a.printUnlockKey(c.Context(), quiet)
	}
	return c
}

// printUnlockKey prints the key that is valid now.
func (a *app) printUnlockKey(ctx context.Context, quiet bool) error {
	conn, err := a.dial()
	if err != nil {
		return err
	}
	r, err := api.NewCAClient(conn).GetUnlockKey(ctx, &api.GetUnlockKeyRequest{})
	if err != nil {
		return fmt.Errorf("read the unlock key: %w", err)
	}
	key, err := ca.UnlockKeyOf(r.UnlockKey)
	switch {
	case err != nil:
		return err
	case key.IsZero():
		return errors.New("there is no unlock key: managers are not locked")
	case quiet:
		fmt.Fprintln(a.Out, key.Reveal())
		return nil
	}
	fmt.Fprintln(a.Out, "Unlock key:", key.Reveal())
	fmt.Fprintln(a.Err, "Keep it where no manager's disk is: a manager that starts waits for it, see 'swarmctl cluster unlock --help'.")
	return nil
}

func (a *app) clusterUnlock() *cobra.Command {
	var waiting waitFlags
	c := &cobra.Command{
		Use: "unlock", Short: "Unlock the manager of this socket, and wait until it runs",
		Long: `Unlock the manager of this socket, and wait until it runs.

The key is taken from $` + unlockVariable + `, else asked for on a terminal, else
read from standard input. It is no argument: others could see it there. On a
manager that runs, 'swarmctl cluster unlock-key' prints it.`,
		Example: "  swarmctl cluster unlock\n  swarmctl cluster unlock < key",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New("the key is no argument, since others could see it there: it is asked for, or read from standard input")
			}
			return nil
		},
	}
	waiting.registerDetach(c.Flags())
	waiting.registerTimeout(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		local, err := a.local()
		if err != nil {
			return err
		}
		// Nobody looks for a key that is not needed.
		before, err := local.Status(c.Context(), &skep.StatusRequest{})
		if err != nil {
			return err
		}
		if before.State != skep.StatusResponse_LOCKED && before.State != skep.StatusResponse_UNKNOWN {
			return errors.New("this node is not locked: there is nothing to unlock")
		}
		key, err := a.unlockKey(os.Getenv(unlockVariable))
		if err != nil {
			return err
		}
		if _, err := local.Unlock(c.Context(), &skep.UnlockRequest{UnlockKey: key}); err != nil || waiting.detach {
			return err
		}
		return a.await(c.Context(), operation{
			name: "manager", what: "the manager runs", see: "swarmctl cluster health", flags: waiting,
			look: func(ctx context.Context) (step, error) {
				r, err := local.Status(ctx, &skep.StatusRequest{})
				return starting(r), err
			},
		})
	}
	return c
}

// starting says how far a node is that was unlocked.
func starting(r *skep.StatusResponse) step {
	switch r.GetState() {
	case skep.StatusResponse_RUNNING, skep.StatusResponse_UNKNOWN:
		return step{text: "unlocked", reached: true}
	default:
		if r.GetMessage() != "" {
			return step{text: r.GetMessage()}
		}
		return step{text: "starts"}
	}
}

// unlockKey reads the key from where it is safe.
func (a *app) unlockKey(env string) (string, error) {
	text := env
	if in, ok := a.In.(*os.File); text == "" && ok && term.IsTerminal(int(in.Fd())) {
		fmt.Fprint(a.Err, "Unlock key: ")
		typed, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(a.Err)
		if err != nil {
			return "", fmt.Errorf("read the unlock key: %w", err)
		}
		text = string(typed)
	} else if text == "" {
		const most = 4 << 10 // more is no key
		read, err := io.ReadAll(io.LimitReader(a.In, most))
		if err != nil {
			return "", fmt.Errorf("read the unlock key from standard input: %w", err)
		}
		text = string(read)
	}
	text = strings.TrimSpace(text)
	// People paste the whole line.
	text = strings.TrimSpace(strings.TrimPrefix(text, "Unlock key:"))
	if text == "" {
		return "", fmt.Errorf("no unlock key was given: type it, hand it to standard input, or set %s", unlockVariable)
	}
	key, err := ca.ParseUnlockKey(text)
	return key.Reveal(), err
}
