package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:   "swarmbench",
		Short: "Measure a manager against the limits of the machine",
		Example: `  swarmbench echo
  swarmbench writes --socket .skep/swarmd.sock --clients 64
  swarmbench deploy --socket .skep/swarmd.sock --addr 127.0.0.1:4242 --agents 1000 --replicas 10000
  swarmbench failover --swarmd bin/swarmd --agents 50 --tasks 1000
  swarmbench suite --swarmd bin/swarmd`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(echoCommand(), echoServerCommand(), bareServerCommand(), writesCommand(), deployCommand(), idleCommand(), certsCommand(), failoverCommand(), suiteCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
