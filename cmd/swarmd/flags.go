package main

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"skep/api"
	"skep/model"
	"skep/node"
)

// options are the flags as they were typed.
type options struct {
	stateDir, socket, listen, advertise string
	joinAddr, joinToken                 string
	availability, hostname, generic     string
	executor                            string
	unlockKey, unlockKeyFile            string
	stopTasks, forceNew, autolock       bool
	logLevel                            string
	listenMetrics, listenDebug          string
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "swarmd",
		Short: "Run a node of a swarm",
		Long: `swarmd makes this machine a node of a swarm. Without --join-addr and without
state from an earlier run it founds a swarm of its own, of which this machine is
the manager and the first worker. It stops cleanly on SIGINT and SIGTERM; tasks
keep running and are found again by the next start, unless --stop-tasks is given.

A manager that is locked needs the swarm's unlock key when it starts. It is taken
from --unlock-key-file, --unlock-key or $` + unlockKeyVariable + `. Without one swarmd waits until
'swarmctl cluster unlock' brings it.`,
		Example: `  swarmd --state-dir /var/lib/swarmd
  swarmd --state-dir /var/lib/swarmd --join-addr 192.0.2.10:4242 --join-token SWMTKN-1-…
  swarmd --state-dir /var/lib/swarmd --unlock-key-file /run/keys/swarm
  swarmd --listen-remote-api 127.0.0.1:0 --state-dir ./state --listen-control-api ./swarmd.sock`,
		Version: version(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("swarmd takes flags only, no %q\nSee 'swarmd --help'", args[0])
			}
			return nil
		},
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := o.config(c.ErrOrStderr())
			if err != nil {
				return err
			}
			return node.Run(c.Context(), cfg)
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w\nSee 'swarmd --help'", err)
	})
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&o.stateDir, "state-dir", "d", "/var/lib/swarmd", "`DIR` for everything the node keeps")
	f.StringVar(&o.socket, "listen-control-api", "/var/run/swarmd.sock", "unix socket `PATH` of the control API")
	f.StringVar(&o.listen, "listen-remote-api", "0.0.0.0:4242", "`ADDRESS` that other nodes connect to (port 0: any free one)")
	f.StringVar(&o.advertise, "advertise-remote-api", "", "`ADDRESS` given to other nodes (default: that of the default route, else loopback)")
	f.StringVar(&o.joinAddr, "join-addr", "", "join the swarm of the manager at `ADDRESS`; a member looks there for managers that have moved")
	f.StringVar(&o.joinToken, "join-token", "", "`TOKEN` to join with, which a member does not need, see 'swarmctl cluster join-token worker'")
	f.StringVar(&o.availability, "availability", "active", "`MODE` in which it begins: active, pause or drain")
	f.StringVar(&o.hostname, "hostname", "", "`NAME` of this node (default: the machine's)")
	f.StringVar(&o.generic, "generic-node-resources", "", "other resources `KIND=VALUE` of this node: fpga=2,gpu=U1,gpu=U2")
	f.StringVar(&o.executor, "executor", "process", "`EXECUTOR` of tasks: process, docker or none")
	f.BoolVar(&o.autolock, "autolock", false, "lock the managers of the swarm that is founded, see 'swarmctl cluster unlock-key'")
	f.StringVar(&o.unlockKey, "unlock-key", "", "`KEY` that opens a locked manager; others can see it here, $"+unlockKeyVariable+" or a file are better")
	f.StringVar(&o.unlockKeyFile, "unlock-key-file", "", "`FILE` that holds the unlock key")
	f.BoolVar(&o.forceNew, "force-new-cluster", false, "once, make a swarm of this manager alone, with all it knows, when most of the others are lost for good; ignored at later starts")
	f.BoolVar(&o.stopTasks, "stop-tasks", false, "stop this node's tasks when swarmd stops")
	f.StringVarP(&o.logLevel, "log-level", "l", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	f.StringVar(&o.listenMetrics, "listen-metrics", "", "`ADDRESS` that serves Prometheus metrics over HTTP at /metrics")
	f.StringVar(&o.listenDebug, "listen-debug", "", "`ADDRESS` that serves profiles over HTTP at /debug/pprof/")
	c.AddCommand(debugCommand())
	return c
}

func (o options) config(log io.Writer) (node.Config, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return node.Config{}, fmt.Errorf("--log-level %q: choose debug, info, warn or error", o.logLevel)
	}
	availability, ok := api.NodeSpec_Availability_value[strings.ToUpper(o.availability)]
	if !ok {
		return node.Config{}, fmt.Errorf("--availability %q: choose active, pause or drain", o.availability)
	}
	switch {
	case o.joinAddr == "" && o.joinToken != "":
		return node.Config{}, fmt.Errorf("--join-token without --join-addr: say which manager to join")
	case o.joinAddr != "" && o.autolock:
		return node.Config{}, fmt.Errorf("--autolock with --join-addr: it is for the first manager of a swarm; 'swarmctl cluster update --autolock' locks managers that run")
	}
	unlock, err := givenUnlockKey(o.unlockKey, o.unlockKeyFile)
	if err != nil {
		return node.Config{}, err
	}
	generic, err := model.ParseGenericResources(o.generic)
	if err != nil {
		return node.Config{}, fmt.Errorf("--generic-node-resources: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return node.Config{
		StateDir:        o.stateDir,
		Socket:          o.socket,
		Listen:          o.listen,
		Advertise:       o.advertise,
		JoinAddr:        o.joinAddr,
		JoinToken:       o.joinToken,
		Availability:    api.NodeSpec_Availability(availability),
		Hostname:        o.hostname,
		Generic:         generic,
		Executor:        o.executor,
		StopTasks:       o.stopTasks,
		UnlockKey:       unlock,
		AutoLock:        o.autolock,
		ForceNewCluster: o.forceNew,
		ListenMetrics:   o.listenMetrics,
		ListenDebug:     o.listenDebug,
		Version:         version(),
		Metrics:         registry,
		Log:             slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})),
	}, nil
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
