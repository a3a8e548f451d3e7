package raft

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a node's metrics. Those named swarm_ are known from other implementations
// of the contract.
type metrics struct {
	registry     prometheus.Registerer // nil: none
	transactions prometheus.Histogram
	snapshots    prometheus.Histogram
	flushes      prometheus.Histogram
	entries      prometheus.Histogram
	bytes        prometheus.Counter
	elections    prometheus.Counter
	refused      prometheus.Counter
	states       []prometheus.Collector

	mu    sync.Mutex
	began []time.Time // of what was proposed in this term and is not applied
}

func newMetrics(registry prometheus.Registerer) *metrics {
	latency := prometheus.ExponentialBuckets(0.0001, 2, 17) // 0.1 ms to 6.5 s
	return &metrics{
		registry: registry,
		transactions: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "swarm_raft_transaction_latency_seconds", Buckets: latency,
			Help: "Time from proposing an entry to having it applied, on the leader.",
		}),
		snapshots: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "swarm_raft_snapshot_latency_seconds", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
			Help: "Time to write a snapshot.",
		}),
		flushes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "skep_raft_flush_seconds", Buckets: latency,
			Help: "Time to write and sync one batch of the log. There is one sync a batch.",
		}),
		entries: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "skep_raft_flush_entries", Buckets: prometheus.ExponentialBuckets(1, 2, 14),
			Help: "Entries that shared one sync.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skep_raft_log_written_bytes_total",
			Help: "Bytes written to the log.",
		}),
		elections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skep_raft_elections_won_total",
			Help: "How often this manager became the leader.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skep_raft_refused_messages_total",
			Help: "Raft messages that were not taken: of a removed or unknown member, for another one, or of a type that never travels.",
		}),
	}
}

// observe adds what is asked of the node whenever somebody looks.
func (m *metrics) observe(n *Node) {
	for _, g := range []struct {
		name, help string
		value      func() float64
	}{
		{"skep_raft_term", "The term of raft.", func() float64 { return float64(n.Status().Term) }},
		{"skep_raft_committed_index", "Up to where the log is committed.", func() float64 { return float64(n.Status().Commit) }},
		{"skep_raft_applied_index", "Up to where the log is applied here.", func() float64 { return float64(n.Status().Applied) }},
		{"skep_raft_log_bytes", "Bytes of log on disk.", func() float64 { bytes, _ := n.log.Size(); return float64(bytes) }},
		{"skep_raft_snapshot_bytes", "Size of the last snapshot.", func() float64 { return float64(n.snapshotSize.Load()) }},
	} {
		m.states = append(m.states, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, g.value))
	}
}

func (m *metrics) all() []prometheus.Collector {
	return append([]prometheus.Collector{m.transactions, m.snapshots, m.flushes, m.entries, m.bytes, m.elections, m.refused}, m.states...)
}

func (m *metrics) register() error {
	if m.registry == nil {
		return nil
	}
	for i, c := range m.all() {
		if err := m.registry.Register(c); err != nil {
			for _, done := range m.all()[:i] {
				m.registry.Unregister(done)
			}
			return err
		}
	}
	return nil
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all() {
		m.registry.Unregister(c)
	}
}

func (m *metrics) flushed(took time.Duration, entries, bytes int) {
	m.flushes.Observe(took.Seconds())
	m.entries.Observe(float64(entries))
	m.bytes.Add(float64(bytes))
}

// elected begins a term: what was proposed before has no outcome here.
func (m *metrics) elected() {
	m.elections.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = nil
}

// proposed notes when what raft took was proposed.
func (m *metrics) proposed(taken []proposal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range taken {
		m.began = append(m.began, p.at)
	}
}

// applied observes the n oldest proposals, which are applied now.
func (m *metrics) applied(n int) {
	m.mu.Lock()
	n = min(n, len(m.began))
	done := m.began[:n]
	m.began = m.began[n:]
	m.mu.Unlock()
	for _, at := range done {
		m.transactions.Observe(time.Since(at).Seconds())
	}
}
