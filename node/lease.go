package node

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// lease is a registerer whose metrics can all be taken back: a node may run several
// managers, one after the other, whose metrics have the same names.
type lease struct {
	prometheus.Registerer

	mu         sync.Mutex
	collectors []prometheus.Collector
}

// Register registers a collector until end.
func (l *lease) Register(c prometheus.Collector) error {
	if err := l.Registerer.Register(c); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.collectors = append(l.collectors, c)
	return nil
}

// MustRegister is Register for what cannot fail.
func (l *lease) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		if err := l.Register(c); err != nil {
			panic(err)
		}
	}
}

// end takes all back.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.collectors {
		l.Unregister(c)
	}
	l.collectors = nil
}
