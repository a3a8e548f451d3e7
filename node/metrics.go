package node

import "github.com/prometheus/client_golang/prometheus"

// registerMetrics registers what this node is.
func (n *node) registerMetrics() error {
	if n.cfg.Metrics == nil {
		return nil
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "swarm_node_info", Help: "Always 1; the labels say which node of which swarm this is.",
		ConstLabels: prometheus.Labels{"swarm_id": n.identity.ClusterID(), "node_id": n.identity.NodeID()},
	})
	info.Set(1)
	manager := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "swarm_node_manager", Help: "Whether this node runs a manager: 1 or 0.",
	}, func() float64 {
		if n.manager.Load() != nil {
			return 1
		}
		return 0
	})
	for _, c := range []prometheus.Collector{info, manager} {
		if err := n.cfg.Metrics.Register(c); err != nil {
			return err
		}
	}
	return nil
}
