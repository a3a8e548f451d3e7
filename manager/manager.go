package manager

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"skep/api"
	"skep/ca"
	"skep/loop"
	"skep/model"
	"skep/raft"
	"skep/rpc"
	"skep/rpc/raftserver"
	"skep/store"
	"skep/vfs"
)

// Config is what a Manager is made of. All but Founding, Now, Log and Metrics is
// required.
type Config struct {
	// Identity is the node's. Its role is manager.
	Identity *ca.Identity
	// FS and Dir are where the raft log is, RaftKey what it is encrypted with.
	FS      vfs.FS
	Dir     string
	RaftKey [ca.RaftKeySize]byte
	// Addr is the address that other nodes reach this manager at.
	Addr string
	// Founding is set until the swarm is founded, by its first manager only.
	Founding *Founding
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
	raft    *raft.Node
	metrics *loop.Metrics
	// serving is whether this manager leads and answers what only a leader may.
	serving watched[bool]
	// stopping is closed when Run is about to end.
	stopping chan struct{}
	services services
}

// New opens the raft log and restores the state it holds. Its errors are for an
// operator: they name the file and what to do.
func New(cfg Config) (*Manager, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{cfg: cfg, stopping: make(chan struct{})}
	m.store = store.New(store.Config{Now: cfg.Now, Logger: cfg.Log, Metrics: cfg.Metrics})
	m.replica = &replica{store: m.store}
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
	m.raft, err = raft.New(raft.Config{
		FS: cfg.FS, Dir: cfg.Dir, Key: cfg.RaftKey,
		NodeID: cfg.Identity.NodeID(), Addr: cfg.Addr,
		StateMachine: m.replica, Log: cfg.Log, Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	m.store.SetLog(m.raft)
	m.services = m.newServices()
	// The servers may answer before Run does: what they have is known, not ready.
	m.setHealth(api.HealthCheckResponse_NOT_SERVING)
	return m, nil
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

// Run replicates, and leads whenever it is elected, until ctx ends, which is no
// error, or until the manager cannot go on. Call it once.
func (m *Manager) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { close(m.stopping) })()
	m.setHealth(api.HealthCheckResponse_SERVING)
	defer m.setHealth(api.HealthCheckResponse_NOT_SERVING)
	group.Go(func() error { return m.raft.Run(ctx) })
	group.Go(func() error { return m.leadWhenElected(ctx) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (m *Manager) setHealth(status api.HealthCheckResponse_ServingStatus) {
	m.services.health.Set(raftserver.PartRaft, status)
	m.services.health.Set(raftserver.PartControlAPI, status)
}

// leadWhenElected runs the leader's parts from each election to its loss.
func (m *Manager) leadWhenElected(ctx context.Context) error {
	for ctx.Err() == nil {
		term, changed := m.replica.term.get()
		if term == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		err := m.lead(ctx, changed)
		select {
		case <-changed: // what a part makes of that is no failure of its own
		default:
			if err != nil {
				return fmt.Errorf("lead: %w", err)
			}
		}
	}
	return ctx.Err()
}

// part is one thing that runs only while this manager leads.
type part struct {
	name string
	run  func(context.Context) error
}

// errLost ends the leader's parts when this manager leads no more.
var errLost = errors.New("leadership was lost")

// lead founds the swarm if need be and runs every part until ctx ends, leadership
// is lost, or one part falls.
func (m *Manager) lead(ctx context.Context, lost <-chan struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		select {
		case <-lost:
			return errLost
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error { return m.serve(ctx) })
	return group.Wait()
}

// serve is what a leader does: found the swarm, then run all parts.
func (m *Manager) serve(ctx context.Context) error {
	if err := m.found(ctx); err != nil {
		return fmt.Errorf("found the swarm: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range m.parts() {
		group.Go(func() error {
			err := p.run(ctx)
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s ended by itself", p.name)
			}
			return nil
		})
	}
	// Requests are let in when all that they need is there.
	if err := m.services.dispatcher.AwaitOpen(ctx); err != nil {
		return group.Wait()
	}
	m.serving.set(true)
	defer m.serving.set(false)
	m.cfg.Log.InfoContext(ctx, "this manager leads", slog.String("node.id", m.cfg.Identity.NodeID()))
	return group.Wait()
}

// parts is all that runs only while leading.
func (m *Manager) parts() []part {
	runner := loop.NewRunner(loop.Config{
		Store:   m.store,
		Loops:   m.loops(),
		NewID:   newID,
		Rand:    mathrand.New(mathrand.NewPCG(mathrand.Uint64(), mathrand.Uint64())), //nolint:gosec // spreads load, guards nothing
		Now:     m.cfg.Now,
		Log:     m.cfg.Log,
		Metrics: m.metrics,
	})
	return []part{
		{"loops", runner.Run},
		{"dispatcher", m.services.dispatcher.Run},
	}
}

func newID() string { return model.NewID(rand.Reader) }
