package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/model"
	"skep/vfs"
)

func idleCommand() *cobra.Command {
	var socket, addr string
	var agents, pid int
	var seconds float64
	c := &cobra.Command{
		Use: "idle", Short: "Measure what agents that only send heartbeats cost, beside a bare mTLS server", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := time.Duration(seconds * float64(time.Second))
			yard, err := measureBare(c.Context(), agents, d)
			if err != nil {
				return err
			}
			p, err := dialSocket(socket, 1)
			if err != nil {
				return err
			}
			defer p.close()
			got, err := measureIdle(c.Context(), api.NewControlClient(p[0]), addr, pid, agents, d)
			if err != nil {
				return err
			}
			for _, r := range got.results(agents, yard) {
				if err := r.print(c.OutOrStdout(), c.ErrOrStderr()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&socket, "socket", "s", ".skep/swarmd.sock", "socket of the manager")
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:4242", "remote address of the manager")
	c.Flags().IntVar(&agents, "agents", 1000, "how many agents")
	c.Flags().IntVar(&pid, "pid", 0, "process ID of the manager")
	c.Flags().Float64Var(&seconds, "seconds", 15, "how long it is watched")
	return c
}

// load is what a server costs with its connections open.
type load struct {
	perAgent float64 // bytes of memory beyond the server without agents
	core     float64 // part of a core
}

func (l load) results(agents int, yard load) []result {
	params := fmt.Sprintf("agents=%d", agents)
	const check = "all agents ready before and after"
	return []result{
		result{Bench: "idle", Params: params + ", memory", Value: l.perAgent / 1024, Unit: "KiB/agent", Check: check}.against(yard.perAgent / 1024),
		result{Bench: "idle", Params: params + ", CPU", Value: l.core, Unit: "cores", Check: check}.against(yard.core),
	}
}

// settle is how long a server may work off the stampede of connections before it
// is watched.
const settle = 3 * time.Second

// watchLoad looks at a process with its agents connected. before is its memory
// without them.
func watchLoad(ctx context.Context, pid, agents int, before int64, d time.Duration) (load, error) {
	if err := sleep(ctx, settle); err != nil {
		return load{}, err
	}
	from, err := usageOf(pid)
	if err != nil {
		return load{}, err
	}
	if err := sleep(ctx, d); err != nil {
		return load{}, err
	}
	to, err := usageOf(pid)
	if err != nil {
		return load{}, err
	}
	return load{perAgent: float64(min(from.rss, to.rss)-before) / float64(agents), core: coreShare(from, to)}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func measureIdle(ctx context.Context, control api.ControlClient, addr string, pid, agents int, d time.Duration) (load, error) {
	before, err := usageOf(pid)
	if err != nil {
		return load{}, err
	}
	f, err := startFleet(ctx, control, agents, addr)
	if err != nil {
		return load{}, err
	}
	defer f.end()
	l, err := watchLoad(ctx, pid, agents, before.rss, d)
	if err != nil {
		return l, err
	}
	return l, f.awaitReady(ctx, control)
}

// measureBare holds the same connections, streams and calls against a server that
// does nothing.
func measureBare(ctx context.Context, agents int, d time.Duration) (load, error) {
	dir, err := os.MkdirTemp("", "swarmbench")
	if err != nil {
		return load{}, err
	}
	defer removeTemporary(dir)
	server, err := startBare(ctx, dir)
	if err != nil {
		return load{}, err
	}
	defer server.stop()
	before, err := usageOf(server.pid)
	if err != nil {
		return load{}, err
	}
	run, stop := context.WithCancel(ctx)
	clients, err := server.yard.connect(run, server.addr, agents)
	defer func() {
		stop()
		clients.Wait()
	}()
	if err != nil {
		return load{}, err
	}
	return watchLoad(ctx, server.pid, agents, before.rss, d)
}

// yard makes the certificates of a bare server and its clients.
type yard struct {
	root    *ca.Root
	signer  *ca.Signer
	cluster string
}

func newYard(dir string) (*yard, error) {
	root, key, err := ca.NewRoot(time.Now())
	if err != nil {
		return nil, err
	}
	signer, err := ca.NewSigner(root, key)
	if err != nil {
		return nil, err
	}
	y := &yard{root: root, signer: signer, cluster: model.NewID(rand.Reader)}
	cert, err := y.issue(api.NodeRole_MANAGER)
	if err != nil {
		return nil, err
	}
	return y, ca.NewFiles(vfs.OS(), dir).Save(root, cert)
}

func (y *yard) issue(role api.NodeRole) (*ca.Certificate, error) {
	key, err := ca.NewKey()
	if err != nil {
		return nil, err
	}
	request, err := key.Request()
	if err != nil {
		return nil, err
	}
	chain, err := y.signer.Sign(request, ca.Subject{NodeID: model.NewID(rand.Reader), Org: y.cluster, Role: role}, time.Now(), time.Hour)
	if err != nil {
		return nil, err
	}
	return ca.NewCertificate(y.root, chain, key)
}

// heartbeat is how often an agent shows that it is there.
const heartbeat = 5 * time.Second

// connect opens n connections with three streams and a heartbeat each.
func (y *yard) connect(ctx context.Context, addr string, n int) (*sync.WaitGroup, error) {
	clients := &sync.WaitGroup{}
	for range n {
		cert, err := y.issue(api.NodeRole_WORKER)
		if err != nil {
			return clients, err
		}
		conn, err := client.Dial(addr, ca.NewIdentity(y.root, cert, nil).ClientCredentials(ca.ManagerOU))
		if err != nil {
			return clients, err
		}
		d := api.NewDispatcherClient(conn)
		session, err := d.Session(ctx, &api.SessionRequest{})
		if err == nil {
			_, err = session.Recv()
		}
		assignments, err2 := d.Assignments(ctx, &api.AssignmentsRequest{})
		if err2 == nil {
			_, err2 = assignments.Recv()
		}
		tasks, err3 := d.Tasks(ctx, &api.TasksRequest{})
		if err3 == nil {
			_, err3 = tasks.Recv()
		}
		for _, err := range []error{err, err2, err3} {
			if err != nil {
				_ = conn.Close()
				return clients, err
			}
		}
		clients.Go(func() {
			defer conn.Close()
			for sleep(ctx, heartbeat) == nil {
				if _, err := d.Heartbeat(ctx, &api.HeartbeatRequest{}); err != nil {
					return
				}
			}
		})
	}
	return clients, nil
}
