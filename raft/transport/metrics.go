package transport

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a transport's metrics.
type metrics struct {
	sent, dropped, broken, strangers, snapshot, resumed prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		sent:      counter("skep_raft_sent_messages_total", "Messages that were sent to other managers."),
		dropped:   counter("skep_raft_dropped_messages_total", "Messages that found the queue of their receiver full."),
		broken:    counter("skep_raft_connections_broken_total", "Connections to other managers that stood, and broke."),
		strangers: counter("skep_raft_connections_refused_total", "Connections at whose other end was not the manager that was meant."),
		snapshot:  counter("skep_raft_snapshot_sent_bytes_total", "Bytes of snapshots that were sent, repeated ones too."),
		resumed:   counter("skep_raft_snapshot_resumed_total", "Snapshots that went on where they were interrupted."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.sent, m.dropped, m.broken, m.strangers, m.snapshot, m.resumed}
}

func (m *metrics) register(registry prometheus.Registerer) error {
	if registry == nil {
		return nil
	}
	var err error
	for _, c := range m.all() {
		err = errors.Join(err, registry.Register(c))
	}
	return err
}

func (m *metrics) unregister(registry prometheus.Registerer) {
	if registry == nil {
		return
	}
	for _, c := range m.all() {
		registry.Unregister(c)
	}
}
