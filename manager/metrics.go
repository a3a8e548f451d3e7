package manager

import "github.com/prometheus/client_golang/prometheus"

// registerLeader registers whether this manager leads.
func (m *Manager) registerLeader(reg prometheus.Registerer) error {
	return reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "swarm_manager_leader", Help: "Whether this manager leads: 1 or 0.",
	}, func() float64 {
		if m.Leading() {
			return 1
		}
		return 0
	}))
}
