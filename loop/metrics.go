package loop

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what loops do. One serves all runners that a process has, one
// after the other.
type Metrics struct {
	steps, keys, writes, seconds *prometheus.CounterVec
}

// NewMetrics registers the metrics skep_loop_*.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "skep", Subsystem: "loop", Name: name, Help: help}, []string{"loop"})
	}
	m := &Metrics{
		steps:   counter("steps_total", "Steps in which the loop had something to plan."),
		keys:    counter("keys_total", "Keys that the loop planned."),
		writes:  counter("writes_total", "Writes that the loop made."),
		seconds: counter("seconds_total", "Seconds that the loop spent planning."),
	}
	for _, c := range []*prometheus.CounterVec{m.steps, m.keys, m.writes, m.seconds} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) planned(loop string, keys, writes int, took time.Duration) {
	if m == nil {
		return
	}
	m.steps.WithLabelValues(loop).Inc()
	m.keys.WithLabelValues(loop).Add(float64(keys))
	m.writes.WithLabelValues(loop).Add(float64(writes))
	m.seconds.WithLabelValues(loop).Add(took.Seconds())
}
