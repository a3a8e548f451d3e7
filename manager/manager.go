package manager

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"skep/api"
	"skep/ca"
	"skep/control/issuer"
	"skep/loop"
	"skep/model"
	"skep/raft"
	"skep/raft/transport"
	"skep/rpc"
	"skep/rpc/raftserver"
	"skep/store"
	"skep/vfs"
)

// Config is what a Manager is made of. Identity, FS, Dir, RaftKey and Addr are required.
type Config struct {
	// Identity is the node's. Its role is manager.
	Identity *ca.Identity
	// FS and Dir are where the raft log is, RaftKey what it is encrypted with.
	FS      vfs.FS
	Dir     string
	RaftKey [ca.RaftKeySize]byte
	// OldRaftKeys are other keys that the log may be encrypted with, while a rotation to
	// RaftKey is not finished.
	OldRaftKeys [][ca.RaftKeySize]byte
	// Addr is the address that other nodes reach this manager at.
	Addr string
	// Founding is set until the swarm is founded, by its first manager only. A manager
	// that neither founds nor has a log joins the others.
	Founding *Founding
	// Dial returns a connection to the manager at an address with this node's certificate.
	// Nil: there are no others.
	Dial func(addr string) (*grpc.ClientConn, error)
	// Connect makes connections to external CAs; nil is TCP.
	Connect func(ctx context.Context, network, addr string) (net.Conn, error)
	// Managers are addresses at which others may be, which this one asks to let it join, and at
	// which it looks for members that are not where the group's record has them.
	Managers func() []string
	// Opened is told this manager's raft id when its log is there. Nil: nobody is.
	Opened func(raftID uint64) error
	// Settled is set for a node that has been part of the swarm before: what the others refuse to take into
	// their group is asked for again, since a node that works is not to end for it.
	Settled bool
	// ForceNew makes this manager the only one of its group, when quorum is gone for good. Forced is
	// told when that is done, and before any other can join: whoever sets ForceNew afterwards loses
	// those who have. Nil: nobody is.
	ForceNew bool
	Forced   func() error
	// Unforced says why ForceNew is not set though it was asked for, "" that it was not.
	Unforced string
	// Version is what this manager says it runs.
	Version string
	// Refused says why the other managers do not take this node for one of theirs, as far as
	// it was told; "" or nil is that they do.
	Refused func() string
	// Now is the wall clock of certificates and stored times; nil is time.Now.
	Now func() time.Time
	Log *slog.Logger
	// Metrics takes the manager's metrics; nil means none.
	Metrics prometheus.Registerer
}

// Manager is one manager of a swarm.
type Manager struct {
	cfg     Config
	store   *store.Store
	replica *replica
	// raft is nil until there is a log: a manager that joins is told who it is.
	raft      atomic.Pointer[raft.Node]
	transport *transport.Transport
	conns     conns
	// divergence compares the state with that of the others.
	divergence *divergence
	metrics    *loop.Metrics
	// serving is whether this manager leads and answers what only a leader may.
	serving watched[bool]
	// leader is who leads, this manager only when it serves.
	leader watched[rpc.LeaderInfo]
	// waits says what a manager without a log waits for.
	waits watched[string]
	// parts is all that runs only while leading, made anew for each time.
	parts func() []part
	// fell says which of them has fallen, until this manager leads again or another does.
	fell watched[string]
	// forcing is set until the first leadership of a group that was forced.
	forcing bool
	// stopping is closed when Run is about to end.
	stopping chan struct{}
	// removed is closed when the others have taken this manager out of their group.
	removed  chan struct{}
	services services
	issuer   *issuer.Issuer
}

// New opens the raft log, if there is one, and restores the state it holds. Its errors are
// for an operator: they name the file and what to do.
func New(cfg Config) (*Manager, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(addr string) (*grpc.ClientConn, error) {
			return nil, fmt.Errorf("reach the manager at %s: this one reaches no others", addr)
		}
	}
	if cfg.Managers == nil {
		cfg.Managers = func() []string { return nil }
	}
	if cfg.Refused == nil {
		cfg.Refused = func() string { return "" }
	}
	if cfg.Forced == nil {
		cfg.Forced = func() error { return nil }
	}
	if cfg.Opened == nil {
		cfg.Opened = func(uint64) error { return nil }
	}
	m := &Manager{cfg: cfg, forcing: cfg.ForceNew, stopping: make(chan struct{}), removed: make(chan struct{}), conns: conns{dial: cfg.Dial}}
	m.store = store.New(store.Config{Now: cfg.Now, Logger: cfg.Log, Metrics: cfg.Metrics})
	m.divergence = newDivergence(group{m}.ID, group{m}.opinionated, func(index uint64, hash []byte) { m.transport.Announce(index, hash) }, cfg.Log)
	m.replica = &replica{store: m.store, compare: m.divergence.reached}
	if cfg.Metrics != nil {
		var err error
		if m.metrics, err = loop.NewMetrics(cfg.Metrics); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
		if err = m.registerLeader(cfg.Metrics); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	var err error
	if m.transport, err = transport.New(transport.Config{Addr: cfg.Addr, Dial: cfg.Dial, Elsewhere: cfg.Managers, Log: cfg.Log, Metrics: cfg.Metrics}); err != nil {
		return nil, err
	}
	exists, err := raft.Exists(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.ForceNew && !exists {
		return nil, fmt.Errorf("--force-new-cluster makes a swarm of what one manager has, and there is no log in %s: start it with the state directory of a manager, or without the flag", cfg.Dir)
	}
	if exists || cfg.Founding != nil {
		if err := m.open(nil); err != nil {
			return nil, err
		}
	} else {
		m.waits.set("asks the managers to take it into their group")
	}
	external := &ca.External{Identity: cfg.Identity, Dial: cfg.Connect}
	m.issuer = issuer.New(issuer.Config{ClusterID: cfg.Identity.ClusterID(), Now: cfg.Now, External: external})
	m.services = m.newServices(external)
	m.parts = m.leaderParts
	// The servers may answer before Run does: what they have is known, not ready.
	m.setHealth(api.HealthCheckResponse_NOT_SERVING)
	return m, nil
}

// open opens the log, or makes one: that of a new group, or of the one that let it join.
func (m *Manager) open(join *raft.JoinInfo) error {
	node, err := raft.New(raft.Config{
		FS: m.cfg.FS, Dir: m.cfg.Dir, Key: m.cfg.RaftKey, OldKeys: m.cfg.OldRaftKeys,
		NodeID: m.cfg.Identity.NodeID(), Addr: m.cfg.Addr, Join: join, ForceNew: m.cfg.ForceNew && join == nil, Transport: m.transport,
		StateMachine: m.replica, Log: m.cfg.Log, Metrics: m.cfg.Metrics,
	})
	if err != nil {
		return err
	}
	m.transport.Bind(node.ID(), host{node})
	m.store.SetLog(node)
	m.raft.Store(node)
	m.waits.set("")
	return nil
}

// Store is the state of the swarm as this manager has it.
func (m *Manager) Store() *store.Store { return m.store }

// Founded reports whether the swarm's cluster object is durable.
func (m *Manager) Founded() bool {
	_, ok := m.store.Read().Clusters.Get(m.cfg.Identity.ClusterID())
	return ok
}

// Leadership routes the requests of the servers that offer this manager's services.
func (m *Manager) Leadership() rpc.Leadership { return leadership{m} }

// Leading reports whether this manager leads.
func (m *Manager) Leading() bool {
	serving, _ := m.serving.get()
	return serving
}

// AwaitServing returns when this manager leads and answers, or ctx ends.
func (m *Manager) AwaitServing(ctx context.Context) error {
	for {
		serving, changed := m.serving.get()
		if serving {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Waits says in a sentence what the manager waits for before it can answer, "" when it
// can.
func (m *Manager) Waits() string {
	if waits, _ := m.waits.get(); waits != "" {
		return waits
	}
	if fell, _ := m.fell.get(); fell != "" {
		return fell
	}
	if leader, _ := m.leader.get(); leader == (rpc.LeaderInfo{}) {
		return "no manager leads yet"
	}
	return ""
}

// Joined reports whether this manager is one of the group and has its log.
func (m *Manager) Joined() bool { return m.raft.Load() != nil }

// RotateRaftKey has the raft log encrypted with key, which is stored where the next start
// finds it, and returns nil when nothing on disk needs another. See raft.Node.RotateKey.
func (m *Manager) RotateRaftKey(ctx context.Context, key [ca.RaftKeySize]byte) error {
	node := m.raft.Load()
	if node == nil {
		return errNoLog()
	}
	return node.RotateKey(ctx, key)
}

// SelfIssue returns a certificate for this manager, whose own has expired, out of its
// own log, and the root that the log holds. It lives for an hour and is for being let
// in by the others.
func (m *Manager) SelfIssue(ctx context.Context) (*ca.Root, *ca.Certificate, error) {
	return m.issuer.SelfIssue(ctx, m.store.Read(), m.cfg.Identity.Certificate())
}

// Run joins the others if it must, then replicates, and leads whenever it is elected, until
// ctx ends, which is no error, or until the manager cannot go on: raft.ErrRemoved says that
// the others have removed it. Call it once.
func (m *Manager) Run(ctx context.Context) error {
	// The others dial back before they let it join.
	m.services.health.Set(raftserver.PartRaft, api.HealthCheckResponse_SERVING)
	defer m.setHealth(api.HealthCheckResponse_NOT_SERVING)
	defer context.AfterFunc(ctx, func() { close(m.stopping) })()
	defer m.conns.close()
	if err := m.ensureMember(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	node := m.raft.Load()
	if err := m.cfg.Opened(node.ID()); err != nil {
		return errors.Join(fmt.Errorf("note that this manager has a log: %w", err), node.Close())
	}
	m.setHealth(api.HealthCheckResponse_SERVING)

	// The transport outlives raft, whose last message hands leadership over.
	carrying, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	var carrier errgroup.Group
	carrier.Go(func() error { return m.transport.Run(carrying) })
	group.Go(func() error {
		err := node.Run(ctx)
		switch {
		case errors.Is(err, raft.ErrRemoved):
			close(m.removed)
		case err == nil && ctx.Err() == nil:
			err = errors.New("raft ended by itself")
		}
		return err
	})
	group.Go(func() error { return m.leadWhenElected(ctx) })
	group.Go(func() error { m.watchLeader(ctx); return nil })
	group.Go(func() error { m.announce(ctx); return nil })
	group.Go(func() error { m.followCluster(ctx); return nil })
	group.Go(func() error { return m.divergence.Run(ctx) })
	err := group.Wait()
	stop()
	return errors.Join(err, carrier.Wait())
}

// HandOver lets another manager lead, if this one leads and another can. It goes on as a
// follower: what was being written has its outcome when this one has seen it.
func (m *Manager) HandOver(ctx context.Context) {
	if node := m.raft.Load(); node != nil {
		node.HandOver(ctx)
	}
}

// ensureMember joins the others, unless the log says that this manager has.
func (m *Manager) ensureMember(ctx context.Context) error {
	if node := m.raft.Load(); node != nil {
		if node.Status().LastIndex > 0 {
			return nil
		}
		// It ended before anything of the log had come to it, also who the others are.
		m.raft.Store(nil)
		if err := node.Close(); err != nil {
			return err
		}
	}
	info, err := m.join(ctx)
	if err != nil {
		return err
	}
	return m.open(info)
}

// ignoreEnd returns err, unless ctx has ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // what was under way was stopped
	}
	return err
}

func (m *Manager) setHealth(status api.HealthCheckResponse_ServingStatus) {
	m.services.health.Set(raftserver.PartRaft, status)
	m.services.health.Set(raftserver.PartControlAPI, status)
}

func newID() string { return model.NewID(rand.Reader) }
