package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"

	"skep/agent"
	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/manager"
	"skep/rpc"
)

const (
	raftDir = "raft"
	// removedDir is the log of a manager that was removed from its group.
	removedDir = "raft.removed"
	workerDir  = "worker"
	tasksFile  = "tasks.db"
	tasksDir   = "tasks"
	// stopTasksLimit is how long tasks may take to stop when the node does; what is
	// left then is killed.
	stopTasksLimit = 30 * time.Second
)

// node is one run of a node.
type node struct {
	cfg         Config
	machine     Machine
	dir         *stateDir
	files       *ca.Files
	identity    *ca.Identity
	rootKey     []byte           // set while a swarm that this node founds has no cluster object yet
	managers    *client.Managers // the same once the parts run: several use it
	renewer     *ca.Renewer
	agent       *agent.Agent
	grpcMetrics *rpc.Metrics
	// socket is open as long as the node runs; who answers there changes.
	socket net.Listener
	// remote is the manager's port, as far as it was opened before the manager runs.
	remote net.Listener
	// manager is nil while this node is none.
	manager    atomic.Pointer[manager.Manager]
	addr       atomic.Pointer[string] // what others reach the manager at
	registered atomic.Bool
	// ownFailed is set when the last session with its own manager came to nothing.
	ownFailed atomic.Bool
	// stalled is what keeps the node from being what its certificate says, nil if nothing does.
	stalled atomic.Pointer[string]
	// away is the manager that was the last not to answer, only for the agent's goroutine.
	away string
	// refused is why the last session with another manager came to nothing, nil since one
	// came about.
	refused atomic.Pointer[status.Status]
	// foreign has something in it when a manager was met that the trusted root does not
	// vouch for.
	foreign chan struct{}
	// playing is closed when the node has begun to be what its certificate says.
	playing  chan struct{}
	playOnce sync.Once
	// left is closed when the node has left the swarm, by its own wish.
	left chan struct{}
	// leaving is the try to leave that is under way or has succeeded, and departures has it
	// until it begins.
	leaving    atomic.Pointer[departure]
	departures chan *departure
	played     bool // it has been a manager or a worker before, since it was started
	fresh      bool // it joined as a manager in this run, and is none of the group yet
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
	n := &node{cfg: cfg, machine: cfg.Machine.withDefaults(), playing: make(chan struct{}), left: make(chan struct{}), departures: make(chan *departure, 1), foreign: make(chan struct{}, 1)}
	if cfg.Metrics != nil {
		n.grpcMetrics = rpc.NewMetrics(cfg.Metrics)
	}
	var err error
	if n.dir, err = openStateDir(n.machine, cfg.StateDir); err != nil {
		return err
	}
	return errors.Join(ignoreCanceled(n.run(ctx)), n.dir.release())
}

func (n *node) run(ctx context.Context) (err error) {
	if n.socket, err = n.machine.ListenLocal(n.cfg.Socket); err != nil {
		return err
	}
	defer n.socket.Close()
	known, err := n.dir.load()
	if err != nil {
		return err
	}
	// Given to a node that is a member, the join address is where it may find managers that moved.
	n.managers = client.NewManagers(append(known.Managers, n.cfg.JoinAddr)...)
	n.files = ca.NewFiles(n.machine.FS, n.dir.join(certificatesDir))
	member, err := n.loadIdentity(ctx)
	if errors.Is(err, ca.ErrLocked) {
		if err := n.unlock(ctx, known.Managers); err != nil {
			return err
		}
		member, err = n.loadIdentity(ctx)
	}
	if err != nil {
		return err
	}
	if member && n.manages() || !member && n.cfg.JoinAddr == "" {
		// Before a swarm is founded: a port that is taken leaves nothing behind.
		if n.remote, err = n.machine.ListenRemote(n.cfg.Listen); err != nil {
			return err
		}
		defer n.closeRemote()
	}
	if !member {
		if err := n.becomeMember(ctx); err != nil {
			return err
		}
		n.fresh = n.manages()
	}
	if err := n.registerMetrics(); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	closeAgent, err := n.newAgent()
	if err != nil {
		return err
	}
	if err := errors.Join(n.serve(ctx), closeAgent()); err != nil {
		return err
	}
	select {
	case <-n.left:
		return n.forget()
	default:
		return nil
	}
}

// closeRemote closes the manager's port if no manager has taken it.
func (n *node) closeRemote() {
	if n.remote != nil {
		_ = n.remote.Close() // nobody has used it
		n.remote = nil
	}
}

// becomeMember obtains an identity. What it takes to join may last: the socket
// answers meanwhile.
func (n *node) becomeMember(ctx context.Context) error {
	if n.cfg.JoinAddr == "" {
		return n.obtainIdentity(ctx)
	}
	stop, err := n.serveJoining()
	if err != nil {
		return err
	}
	return errors.Join(n.obtainIdentity(ctx), stop())
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
	storage, closeStorage, err := n.openTasks()
	if err != nil {
		return nil, errors.Join(err, closeExecutor())
	}
	close = func() error { return errors.Join(closeExecutor(), closeStorage()) }
	n.renewer = ca.NewRenewer(ca.RenewerConfig{
		Identity: n.identity, Files: n.files, Rand: rand.Float64, Log: n.cfg.Log,
		Obtain: n.obtain,
	})
	n.agent, err = agent.New(agent.Config{
		NodeID: n.identity.NodeID(), Executor: executor, Storage: storage,
		Connect: n.connect, Notify: n.notify, Hostname: n.cfg.Hostname, TLSInfo: n.tlsInfo,
		Now: n.cfg.Now, Log: n.cfg.Log,
	})
	if err != nil {
		return nil, errors.Join(err, close())
	}
	return close, nil
}

// notify takes what a session says of this node and its managers.
func (n *node) notify(m *api.SessionMessage) {
	n.registered.Store(true)
	n.refused.Store(nil)
	n.managers.Set(m.GetManagers())
	n.trust(m.GetRootCA())
	var addrs []string
	for _, p := range n.managers.Peers() {
		addrs = append(addrs, p.GetPeer().GetAddr())
	}
	if err := n.dir.edit(func(s *state) bool {
		if slices.Equal(s.Managers, addrs) {
			return false
		}
		s.Managers = addrs
		return true
	}); err != nil {
		n.cfg.Log.Warn("the list of managers was not saved", slog.Any("error", err))
	}
	if is := m.GetNode(); is != nil {
		role := is.GetRole()
		if role != n.identity.Role() || is.GetCertificate().GetStatus().GetState() == api.IssuanceStatus_ROTATE {
			n.renewer.Renew(role)
		}
	}
}

func (n *node) tlsInfo() *api.NodeTLSInfo {
	root := n.identity.Root()
	subject, key := n.identity.Certificate().Issuer(root)
	return &api.NodeTLSInfo{TrustRoot: root.PEM(), CertIssuerSubject: subject, CertIssuerPublicKey: key}
}

// serve runs all parts until ctx ends or one of them falls, and ends them in
// order: tasks if asked, agent, and then what answers, with the manager.
func (n *node) serve(ctx context.Context) error {
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, base := errgroup.WithContext(base)
	if err := n.startHTTP(base, group); err != nil {
		end()
		return errors.Join(err, ignoreCanceled(group.Wait()))
	}
	agentCtx, stopAgent := context.WithCancel(base)
	defer stopAgent()
	group.Go(func() error { return ignoreCanceled(n.play(base)) })
	agentEnded := make(chan struct{})
	group.Go(func() error {
		defer close(agentEnded)
		return ignoreCanceled(n.agent.Run(agentCtx))
	})
	n.keepIdentity(agentCtx, group.Go)
	group.Go(func() error { n.leaveWhenAsked(base); return nil })
	n.cfg.Log.InfoContext(ctx, "swarmd runs", slog.String("node.id", n.identity.NodeID()), slog.String("role", ca.OU(n.identity.Role())),
		slog.String("socket", n.cfg.Socket))

	select {
	case <-ctx.Done():
		n.awaitDeparture(base) // the others may have let it go already
		if n.cfg.StopTasks {
			n.stopTasks(base)
		}
	case <-n.left:
	case <-base.Done(): // a part has fallen; group.Wait says which
	}
	stopAgent()
	<-agentEnded
	end()
	return ignoreCanceled(group.Wait())
}

func (n *node) stopTasks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTasksLimit)
	defer cancel()
	if err := n.agent.StopTasks(ctx); err != nil {
		n.cfg.Log.WarnContext(ctx, "not every task stopped as it should", slog.Any("error", err))
	}
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

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
