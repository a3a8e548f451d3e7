package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc"
)

// Streams are the files a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is one run of swarmctl: its streams, global flags and connection.
type app struct {
	Streams
	socket    string
	format    string
	noResolve bool
	conn      grpc.ClientConnInterface
	close     func()
	path      string // of the socket that conn is for
}

// Main runs swarmctl with args (without the program's name) until it is done or
// ctx ends, and returns the exit status.
func Main(ctx context.Context, args []string, streams Streams) int {
	a := &app{Streams: streams, close: func() {}}
	defer func() { a.close() }()
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	err := root.ExecuteContext(ctx)
	if ctx.Err() != nil && err != nil {
		var exit *exitError
		if !errors.As(err, &exit) {
			err = exitf(ExitInterrupted, "interrupted")
		}
	}
	if err != nil && err.Error() != "" { // with no text, what was printed says it
		fmt.Fprintln(a.Err, "Error:", a.text(err))
	}
	return ExitStatus(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "swarmctl",
		Short: "Control a swarm",
		Long: `swarmctl controls a swarm through the socket of a node.

It looks for the socket at --socket, in SWARM_SOCKET, at .skep/swarmd.sock below
the working directory if that is yours, and at /var/run/swarmd.sock.

` + exitHelp,
		Example: `  swarmctl service create web --image nginx --replicas 3
  swarmctl service create hello --process ./hello -p 8080 -- --greeting hi
  swarmctl service ls
  swarmctl task ls -o json`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownVerb,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != "table" && a.format != "json" {
				return fmt.Errorf("unknown output %q: choose table or json", a.format)
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.socket, "socket", "s", "", "`SOCKET` of the node (env SWARM_SOCKET)")
	flags.StringVarP(&a.format, "output", "o", "table", "`FORMAT` is table, or json with proto field names")
	flags.BoolVarP(&a.noResolve, "no-resolve", "n", false, "print IDs, do not look up names")
	root.AddCommand(a.service(), a.task(), a.node(), a.cluster(), a.secret(), a.config(),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: arguments(0, 0),
			Run: func(*cobra.Command, []string) { fmt.Fprintln(a.Out, "swarmctl skep", version()) },
		})
	explain(root)
	return root
}

// terminal reports whether w is a terminal.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
