package store

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/api"
)

// metrics is what the store tells Prometheus, with the names that dashboards
// for this kind of cluster know. Of reads only those are timed that wait for an
// index: any other is the load of a pointer. A nil *metrics measures nothing.
type metrics struct {
	store *Store
	write prometheus.Histogram // Update, from call to return
	read  prometheus.Histogram // ReadAt, from call to return
	lock  prometheus.Histogram // how long a transaction holds the lock
	log   prometheus.Histogram // from taken to applied

	counts *counts // guarded by the store's lock

	nodes, tasks                                      *prometheus.Desc
	services, networks, secrets, configs              *prometheus.Desc
	inFlight, inFlightBytes, subscriptions, resyncSum *prometheus.Desc
}

func newMetrics(s *Store, reg prometheus.Registerer) *metrics {
	if reg == nil {
		return nil
	}
	buckets := prometheus.ExponentialBuckets(50e-6, 2, 18) // 50 µs to 6.5 s
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	m := &metrics{
		store:  s,
		counts: newCounts(),
		write:  histogram("swarm_store_write_tx_latency_seconds", "Time from the start of a write transaction until it is committed and applied."),
		read:   histogram("swarm_store_read_tx_latency_seconds", "Time that a read waits until this manager has what was committed before it."),
		lock:   histogram("swarm_store_memory_store_lock_duration_seconds", "Time that a write transaction holds the store's lock."),
		log:    histogram("skep_store_commit_latency_seconds", "Time from taking a transaction until it is committed and applied."),

		nodes:    desc("swarm_manager_nodes", "Number of nodes in each state.", "state"),
		tasks:    desc("swarm_manager_tasks_total", "Number of tasks in each state.", "state"),
		services: desc("swarm_manager_services_total", "Number of services."),
		networks: desc("swarm_manager_networks_total", "Number of networks."),
		secrets:  desc("swarm_manager_secrets_total", "Number of secrets."),
		configs:  desc("swarm_manager_configs_total", "Number of configs."),

		inFlight:      desc("skep_store_in_flight_transactions", "Transactions on their way through the log."),
		inFlightBytes: desc("skep_store_in_flight_bytes", "Encoded size of the transactions on their way through the log."),
		subscriptions: desc("skep_store_subscription_keys", "Keys that anybody is subscribed to."),
		resyncSum:     desc("skep_store_resyncs_total", "Subscriptions that fell too far behind."),
	}
	reg.MustRegister(m, m.write, m.read, m.lock, m.log)
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.nodes, m.tasks, m.services, m.networks, m.secrets, m.configs,
		m.inFlight, m.inFlightBytes, m.subscriptions, m.resyncSum,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for n, name := range api.NodeStatus_State_name {
		gauge(m.nodes, m.counts.Nodes[api.NodeStatus_State(n)], strings.ToLower(name))
	}
	for n, name := range api.TaskState_name {
		gauge(m.tasks, m.counts.Tasks[api.TaskState(n)], strings.ToLower(name))
	}
	s := m.store.Read()
	gauge(m.services, s.Services.Len())
	gauge(m.networks, s.Networks.Len())
	gauge(m.secrets, s.Secrets.Len())
	gauge(m.configs, s.Configs.Len())
	gauge(m.inFlight, len(m.store.flight))
	gauge(m.inFlightBytes, m.store.bytes)
	gauge(m.subscriptions, len(m.store.feed.subscribers))
	out <- prometheus.MustNewConstMetric(m.resyncSum, prometheus.CounterValue, float64(m.store.feed.resyncs))
}

// started returns the present time, if anybody measures.
func (m *metrics) started() (t time.Time) {
	if m != nil {
		t = time.Now()
	}
	return t
}

func (m *metrics) wrote(since time.Time) {
	if m != nil {
		m.write.Observe(time.Since(since).Seconds())
	}
}

// reachedAt measures a read that waited for an index.
func (m *metrics) reachedAt(since time.Time) {
	if m != nil {
		m.read.Observe(time.Since(since).Seconds())
	}
}

func (m *metrics) unlocked(since time.Time) {
	if m != nil {
		m.lock.Observe(time.Since(since).Seconds())
	}
}

func (m *metrics) logged(since time.Time) {
	if m != nil {
		m.log.Observe(time.Since(since).Seconds())
	}
}

func (m *metrics) committed(changes []Change) {
	if m == nil {
		return
	}
	for _, c := range changes {
		m.counts.Apply(c)
	}
}

func (m *metrics) replaced(s *Snapshot) {
	if m != nil {
		m.counts.Build(s)
	}
}
