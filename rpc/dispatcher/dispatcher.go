package dispatcher

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
	"skep/store"
)

const (
	// defaultPeriod is the time between heartbeats if the cluster does not say.
	defaultPeriod = 5 * time.Second
	// maxJitter is by how much a period differs at most, so that the heartbeats of
	// many nodes spread. A short period differs by a tenth.
	maxJitter = 500 * time.Millisecond
	// missed is how many periods without a message make a node DOWN.
	missed = 3
	// chunk is how many objects one transaction writes at most.
	chunk = 500
	// waiting is how many changes wait for one stream at most; a stream that is
	// further behind is brought up to date from a snapshot.
	waiting = 1000
)

// Config is what a Dispatcher is made of.
type Config struct {
	// Store is the manager's. Required.
	Store *store.Store
	// NodeID is the manager's own node, which signs what it applies. Required.
	NodeID string
	// Peers returns the managers that nodes may talk to, and a channel that is
	// closed when they are others. Required.
	Peers func() (managers []*api.WeightedPeer, changed <-chan struct{})
	// NewID makes session IDs. Required.
	NewID func() string
	// Random, in [0, 1), spreads heartbeats; nil is math/rand.
	Random func() float64
	// Log takes nodes that come and go; nil discards.
	Log *slog.Logger
	// Metrics gets swarm_dispatcher_scheduling_delay_seconds; nil keeps none.
	Metrics prometheus.Registerer
}

// Dispatcher is the service. Make one with New, register it with
// api.RegisterDispatcherServer, and Run it while the manager leads.
type Dispatcher struct {
	api.UnimplementedDispatcherServer
	cfg      Config
	store    *store.Store
	log      *slog.Logger
	sessions *sessions
	news     atomic.Pointer[news]
	delay    prometheus.Observer
}

// news is what every node is told of the cluster, until it changes.
type news struct {
	managers []*api.WeightedPeer
	keys     []*api.EncryptionKey
	root     []byte
	period   time.Duration
	// changed is closed when there are others.
	changed chan struct{}
}

// New returns a Dispatcher that answers Unavailable until Run.
func New(cfg Config) *Dispatcher {
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{cfg: cfg, store: cfg.Store, log: cfg.Log, sessions: newSessions(cfg.NewID)}
	delay := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "swarm_dispatcher_scheduling_delay_seconds",
		Help:    "Time from the creation of a task until it runs.",
		Buckets: prometheus.DefBuckets,
	})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(delay)
	}
	d.delay = delay
	d.news.Store(&news{period: defaultPeriod, changed: make(chan struct{})})
	return d
}

// Run serves nodes until ctx ends; then every session ends. It may be called
// again for another term. It returns an error when the store cannot be written
// though ctx goes on.
func (d *Dispatcher) Run(ctx context.Context) error {
	snapshot, changes := d.store.Subscribe(waiting, store.KindKey(store.KindCluster), store.KindKey(store.KindNode))
	defer changes.Close()
	managers, peersChanged := d.cfg.Peers()
	d.publish(snapshot, managers)
	d.sessions.open(time.Now(), expected(snapshot), 2*missed*d.news.Load().period)
	defer d.sessions.close(model.Errorf(model.Conflict, "node must disconnect: this manager does not lead any more"))

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if next := d.sessions.next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-d.sessions.sooner:
		case <-peersChanged:
			managers, peersChanged = d.cfg.Peers()
			d.publish(d.store.Read(), managers)
		case <-changes.Ready():
			d.changed(changes, managers)
		}
		if err := d.markDown(ctx, d.sessions.expire(time.Now())); err != nil {
			return err
		}
	}
}

// AwaitOpen returns nil when Run serves nodes.
func (d *Dispatcher) AwaitOpen(ctx context.Context) error { return d.sessions.awaitOpen(ctx) }

// expected returns the nodes that a new leader waits for.
func expected(s *store.Snapshot) []string {
	var nodes []string
	for node := range s.Nodes.All() {
		if node.GetStatus().GetState() != api.NodeStatus_DOWN {
			nodes = append(nodes, node.GetId())
		}
	}
	return nodes
}

// changed passes on what changed in the cluster and its nodes.
func (d *Dispatcher) changed(changes *store.Subscription, managers []*api.WeightedPeer) {
	commits, resync := changes.Take()
	if resync {
		snapshot := changes.Resync()
		d.publish(snapshot, managers)
		d.sessions.wakeAll()
		return
	}
	for _, commit := range commits {
		for _, change := range commit.Changes {
			if change.Kind == store.KindNode {
				d.sessions.wake(change.ID(), change.New == nil)
			} else {
				d.publish(d.store.Read(), managers)
			}
		}
	}
}

// publish makes the news those of snapshot, if they are any.
func (d *Dispatcher) publish(snapshot *store.Snapshot, managers []*api.WeightedPeer) {
	is := &news{managers: managers, period: defaultPeriod, changed: make(chan struct{})}
	for cluster := range snapshot.Clusters.All() { // there is one
		is.keys = cluster.GetNetworkBootstrapKeys()
		is.root = cluster.GetRootCa().GetCaCert()
		if period := cluster.GetSpec().GetDispatcher().GetHeartbeatPeriod().AsDuration(); period > 0 {
			is.period = period
		}
	}
	if was := d.news.Load(); !was.same(is) {
		d.news.Store(is)
		close(was.changed)
	}
}

func (n *news) same(m *news) bool {
	return n.period == m.period && string(n.root) == string(m.root) &&
		slices.EqualFunc(n.managers, m.managers, equal[*api.WeightedPeer]) &&
		slices.EqualFunc(n.keys, m.keys, equal[*api.EncryptionKey])
}

func equal[M proto.Message](a, b M) bool { return proto.Equal(a, b) }

// period returns how long a node is to wait until its next heartbeat.
func (d *Dispatcher) period() time.Duration {
	period := d.news.Load().period
	jitter := min(maxJitter, period/10)
	return period - jitter + time.Duration(d.cfg.Random()*float64(2*jitter))
}

// markDown writes that nodes are DOWN. What cannot be written now comes up again.
func (d *Dispatcher) markDown(ctx context.Context, nodes []string) error {
	for some := range slices.Chunk(nodes, chunk) {
		err := d.store.Update(ctx, func(tx *store.Tx) error {
			for _, id := range some {
				node, ok := tx.Nodes.Get(id)
				// One that came back meanwhile wrote READY before this, or will after.
				if !ok || node.GetStatus().GetState() == api.NodeStatus_DOWN || d.sessions.has(id) {
					continue
				}
				node = model.Shallow(node)
				node.Status = &api.NodeStatus{
					State:   api.NodeStatus_DOWN,
					Message: "heartbeat failure",
					Addr:    node.GetStatus().GetAddr(),
				}
				if err := tx.Update(node); err != nil {
					return err
				}
				d.log.Info("node is down: its heartbeats ceased", "node.id", id)
			}
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case model.KindOf(err) == model.Unavailable || model.KindOf(err) == model.Unknown:
			d.sessions.retry(time.Now(), some)
		case err != nil:
			return err
		}
	}
	return nil
}
