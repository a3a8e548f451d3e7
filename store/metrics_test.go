package store_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"skep/api"
	"skep/store"
	"skep/store/storetest"
)

func TestCountsFollowEveryHistory(t *testing.T) {
	t.Parallel()
	storetest.CheckView(t, store.NewCounts)
}

func TestMetricsHaveTheNamesThatDashboardsKnow(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	s := store.NewLocal(store.Config{Metrics: reg})
	must(t, s.Update(t.Context(), create(oneOfEach()...)))
	must(t, s.Update(t.Context(), create(&api.Node{Id: "n2", Status: &api.NodeStatus{State: api.NodeStatus_READY}})))
	want := `
# HELP swarm_manager_nodes Number of nodes in each state.
# TYPE swarm_manager_nodes gauge
swarm_manager_nodes{state="disconnected"} 0
swarm_manager_nodes{state="down"} 0
swarm_manager_nodes{state="ready"} 1
swarm_manager_nodes{state="unknown"} 1
# HELP swarm_manager_services_total Number of services.
# TYPE swarm_manager_services_total gauge
swarm_manager_services_total 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "swarm_manager_nodes", "swarm_manager_services_total"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{
		"swarm_store_write_tx_latency_seconds", "swarm_store_memory_store_lock_duration_seconds", "skep_store_commit_latency_seconds",
		"swarm_manager_tasks_total", "swarm_manager_networks_total", "swarm_manager_secrets_total", "swarm_manager_configs_total",
	} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n == 0 {
			t.Errorf("%s: %d series (%v), want some", name, n, err)
		}
	}
}
