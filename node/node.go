package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"skep/agent"
	"skep/agent/exec"
	"skep/agent/exec/process"
	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/manager"
	"skep/rpc"
	"skep/vfs"
)

const (
	raftDir   = "raft"
	workerDir = "worker"
	tasksFile = "tasks.db"
	tasksDir  = "tasks"
	// stopTasksLimit is how long tasks may take to stop when the node does; what is
	// left then is killed.
	stopTasksLimit = 30 * time.Second
	// drainLimit is how long requests in flight may take when the node stops.
	drainLimit = 2 * time.Second
)

// node is one run of a node.
type node struct {
	cfg         Config
	dir         *stateDir
	files       *ca.Files
	identity    *ca.Identity
	rootKey     []byte // set while a swarm that this node founds has no cluster object yet
	managers    *client.Managers
	renewer     *ca.Renewer
	manager     *manager.Manager // nil on a worker
	agent       *agent.Agent
	grpcMetrics *rpc.Metrics
	// addr is the address that other nodes reach this manager at, empty on a worker.
	addr       string
	registered atomic.Bool
}

// Run runs a node until ctx ends, which is no error, or until it cannot go on.
// Errors are for an operator: what is wrong and what to do.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return err
	}
	n := &node{cfg: cfg}
	if cfg.Metrics != nil {
		n.grpcMetrics = rpc.NewMetrics(cfg.Metrics)
	}
	var err error
	if n.dir, err = openStateDir(cfg.StateDir); err != nil {
		return err
	}
	return errors.Join(ignoreCanceled(n.run(ctx)), n.dir.release())
}

func (n *node) run(ctx context.Context) error {
	socket, err := rpc.ListenLocal(n.cfg.Socket)
	if err != nil {
		return err
	}
	defer socket.Close()
	known, err := n.dir.load()
	if err != nil {
		return err
	}
	n.managers = client.NewManagers(known.Managers...)
	member, err := n.loadIdentity(ctx)
	if err != nil {
		return err
	}
	var remote net.Listener
	if member && n.manages() || !member && n.cfg.JoinAddr == "" {
		// Before a swarm is founded: a port that is taken leaves nothing behind.
		if remote, err = rpc.ListenRemote(n.cfg.Listen); err != nil {
			return err
		}
		defer remote.Close()
	}
	if !member {
		if err := n.becomeMember(ctx, socket); err != nil {
			return err
		}
	}
	if remote != nil {
		if err := n.newManager(ctx, remote.Addr()); err != nil {
			return err
		}
	}
	if err := n.registerMetrics(); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	closeAgent, err := n.newAgent()
	if err != nil {
		return err
	}
	return errors.Join(n.serve(ctx, socket, remote), closeAgent())
}

// becomeMember obtains an identity. What it takes to join may last: the socket
// answers meanwhile.
func (n *node) becomeMember(ctx context.Context, socket net.Listener) error {
	if n.cfg.JoinAddr == "" {
		return n.obtainIdentity(ctx)
	}
	stop, err := n.serveJoining(socket)
	if err != nil {
		return err
	}
	return errors.Join(n.obtainIdentity(ctx), stop())
}

func (n *node) newManager(ctx context.Context, listening net.Addr) error {
	addr, alone, err := advertised(n.cfg.Advertise, listening)
	if err != nil {
		return err
	}
	if alone {
		n.cfg.Log.WarnContext(ctx, "there is no route to other machines, so none can reach this manager; give --advertise-remote-api", slog.String("addr", addr))
	}
	n.addr = addr
	n.managers = client.NewManagers(addr)
	key, err := n.raftKey()
	if err != nil {
		return err
	}
	cfg := manager.Config{
		Identity: n.identity, FS: vfs.OS(), Dir: n.dir.join(raftDir), RaftKey: key,
		Addr: addr, Now: n.cfg.Now, Log: n.cfg.Log,
	}
	if n.cfg.Metrics != nil {
		cfg.Metrics = n.cfg.Metrics
	}
	if n.rootKey != nil {
		cfg.Founding = &manager.Founding{RootKey: n.rootKey, Availability: n.cfg.Availability}
	}
	n.manager, err = manager.New(cfg)
	return err
}

// newAgent makes the agent and the renewer. close frees what the agent works on,
// once it has ended.
func (n *node) newAgent() (close func() error, err error) {
	executor, err := n.executor()
	if err != nil {
		return nil, err
	}
	closeExecutor := func() error { return nil }
	if c, ok := executor.(io.Closer); ok {
		closeExecutor = c.Close
	}
	storage, err := n.openTasks()
	if err != nil {
		return nil, errors.Join(err, closeExecutor())
	}
	close = func() error { return errors.Join(closeExecutor(), storage.Close()) }
	n.renewer = ca.NewRenewer(ca.RenewerConfig{
		Identity: n.identity, Files: n.files, Rand: rand.Float64, Log: n.cfg.Log,
		Obtain: func(ctx context.Context) (*ca.Root, *ca.Certificate, error) { return n.joiner().Renew(ctx, n.identity) },
	})
	connect := n.connectRemote
	if n.manager != nil {
		connect = n.connectLocal
	}
	n.agent, err = agent.New(agent.Config{
		NodeID: n.identity.NodeID(), Executor: executor, Storage: storage,
		Connect: connect, Notify: n.notify, Hostname: n.cfg.Hostname, TLSInfo: n.tlsInfo,
		Now: n.cfg.Now, Log: n.cfg.Log,
	})
	if err != nil {
		return nil, errors.Join(err, close())
	}
	return close, nil
}

// openTasks opens the database of the agent's tasks.
func (n *node) openTasks() (*agent.Bolt, error) {
	if err := os.MkdirAll(n.dir.join(workerDir), 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's directory: %w", err)
	}
	return agent.OpenBolt(filepath.Join(n.dir.join(workerDir), tasksFile))
}

func (n *node) executor() (exec.Executor, error) {
	if n.cfg.Executor == executorNone {
		return noExecutor{}, nil
	}
	return process.New(process.Config{
		Dir: n.dir.join(tasksDir), Hostname: n.cfg.Hostname, Version: n.cfg.Version, Generic: n.cfg.Generic, Log: n.cfg.Log,
	})
}

// connectLocal reaches this node's own manager over the socket.
func (n *node) connectLocal(context.Context) (grpc.ClientConnInterface, func(error), error) {
	conn, err := client.DialSocket(n.cfg.Socket)
	if err != nil {
		return nil, nil, err
	}
	return conn, func(error) { _ = conn.Close() }, nil
}

// connectRemote reaches one of the managers that this worker knows. One that
// registered the node is a good one, however that session ended.
func (n *node) connectRemote(context.Context) (grpc.ClientConnInterface, func(error), error) {
	addr, ok := n.managers.Pick(rand.Float64())
	if !ok {
		return nil, nil, fmt.Errorf("no manager is known: %s lists none; join again with an empty --state-dir", n.dir.join(stateFile))
	}
	conn, err := client.Dial(addr, n.identity.ClientCredentials(ca.ManagerOU))
	if err != nil {
		return nil, nil, err
	}
	return conn, func(error) {
		if n.registered.Swap(false) {
			n.managers.Succeeded(addr)
		} else {
			n.managers.Failed(addr)
		}
		_ = conn.Close()
	}, nil
}

// notify takes what a session says of this node and its managers.
func (n *node) notify(m *api.SessionMessage) {
	n.registered.Store(true)
	if n.manager == nil {
		n.managers.Set(m.GetManagers())
		var addrs []string
		for _, p := range n.managers.Peers() {
			addrs = append(addrs, p.GetPeer().GetAddr())
		}
		if known, err := n.dir.load(); err != nil || !slices.Equal(known.Managers, addrs) {
			if err := n.dir.save(state{Managers: addrs}); err != nil {
				n.cfg.Log.Warn("the list of managers was not saved", slog.Any("error", err))
			}
		}
	}
	role := m.GetNode().GetSpec().GetDesiredRole()
	if m.GetNode() != nil && (role != n.identity.Role() || m.GetNode().GetCertificate().GetStatus().GetState() == api.IssuanceStatus_ROTATE) {
		n.renewer.Renew(role)
	}
}

func (n *node) tlsInfo() *api.NodeTLSInfo {
	root := n.identity.Root()
	subject, key := n.identity.Certificate().Issuer(root)
	return &api.NodeTLSInfo{TrustRoot: root.PEM(), CertIssuerSubject: subject, CertIssuerPublicKey: key}
}

// serve runs all parts until ctx ends or one of them falls, and ends them in
// order: tasks if asked, agent, servers, manager.
func (n *node) serve(ctx context.Context, socket, remote net.Listener) error {
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, base := errgroup.WithContext(base)
	servers, err := n.startServers(group, socket, remote)
	if err != nil {
		return err
	}
	if err := n.startHTTP(base, group); err != nil {
		end()
		stopServers(servers)
		return errors.Join(err, ignoreCanceled(group.Wait()))
	}
	if n.manager != nil {
		group.Go(func() error { return n.runManager(base) })
	}
	agentCtx, stopAgent := context.WithCancel(base)
	defer stopAgent()
	agentEnded := make(chan struct{})
	group.Go(func() error {
		defer close(agentEnded)
		return ignoreCanceled(n.agent.Run(agentCtx))
	})
	group.Go(func() error { return ignoreCanceled(n.renewer.Run(agentCtx)) })
	n.cfg.Log.InfoContext(ctx, "swarmd runs", slog.String("node.id", n.identity.NodeID()), slog.String("role", ca.OU(n.identity.Role())),
		slog.String("socket", n.cfg.Socket), slog.String("addr", n.addr))

	select {
	case <-ctx.Done():
		if n.cfg.StopTasks {
			n.stopTasks(base)
		}
	case <-base.Done(): // a part has fallen; group.Wait says which
	}
	stopAgent()
	<-agentEnded
	end() // the manager ends its sessions, so that no stream holds a server up
	stopServers(servers)
	return ignoreCanceled(group.Wait())
}

func (n *node) stopTasks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTasksLimit)
	defer cancel()
	if err := n.agent.StopTasks(ctx); err != nil {
		n.cfg.Log.WarnContext(ctx, "not every task stopped as it should", slog.Any("error", err))
	}
}

// runManager runs the manager, and forgets the root's key when the swarm has it.
func (n *node) runManager(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.manager.Run(ctx) })
	group.Go(func() error {
		if err := n.manager.AwaitServing(ctx); err != nil {
			return ignoreCanceled(err)
		}
		if err := os.Remove(n.foundingKey()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the root's key, which the swarm holds now: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// startServers serves the socket and, on a manager, the remote port.
func (n *node) startServers(group *errgroup.Group, socket, remote net.Listener) ([]*grpc.Server, error) {
	local, err := n.socketServer()
	if err != nil {
		return nil, err
	}
	servers := []*grpc.Server{local}
	listeners := []net.Listener{socket}
	if remote != nil {
		server, err := n.remoteServer()
		if err != nil {
			return nil, err
		}
		servers, listeners = append(servers, server), append(listeners, remote)
	}
	for i, server := range servers {
		group.Go(func() error {
			if err := server.Serve(listeners[i]); !errors.Is(err, grpc.ErrServerStopped) {
				return err
			}
			return nil
		})
	}
	return servers, nil
}

func (n *node) remoteServer() (*grpc.Server, error) {
	return rpc.NewServer(rpc.Config{
		Credentials: n.identity.ServerCredentials(),
		Authorizer:  rpc.NewMembers(n.manager.Store(), n.identity.ClusterID()),
		Leadership:  n.manager.Leadership(),
		Now:         n.cfg.Now,
		Log:         n.cfg.Log,
		Metrics:     n.grpcMetrics,
	}, n.manager.Register)
}

func (n *node) startHTTP(ctx context.Context, group *errgroup.Group) error {
	if n.cfg.ListenMetrics != "" && n.cfg.Metrics != nil {
		run, err := serveHTTP(ctx, "--listen-metrics", n.cfg.ListenMetrics, n.metricsHandler())
		if err != nil {
			return err
		}
		group.Go(run)
	}
	if n.cfg.ListenDebug != "" {
		run, err := serveHTTP(ctx, "--listen-debug", n.cfg.ListenDebug, debugHandler())
		if err != nil {
			return err
		}
		group.Go(run)
	}
	return nil
}

// stopServers lets requests in flight end, for a while.
func stopServers(servers []*grpc.Server) {
	timer := time.AfterFunc(drainLimit, func() {
		for _, s := range servers {
			s.Stop()
		}
	})
	defer timer.Stop()
	for _, s := range servers {
		s.GracefulStop()
	}
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
