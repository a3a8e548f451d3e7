package orchestrator_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"skep/api"
	"skep/control/allocator"
	"skep/control/orchestrator"
	"skep/control/reaper"
	"skep/control/scheduler"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

// Whatever services, nodes and tasks go through, never are there two live tasks
// in a slot, and once all is well again every service has what it asks for.
func TestNeverTwoLiveTasksInASlot(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.begin(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.disturb(t)
			if rapid.IntRange(0, 3).Draw(t, "settle") > 0 {
				w.Settle(t)
				w.checkWanted(t)
			}
			w.checkLive(t)
		}
		w.heal(t)
	})
}

// world is a cluster with agents that run tasks for real, as far as it matters
// here: each knows what it was last told, and what it runs.
type world struct {
	*looptest.Cluster
	agents map[string]*agent
}

type agent struct {
	up   bool // in touch with the manager
	told map[string]api.TaskState
	runs map[string]run
}

// run is a live task on an agent.
type run struct {
	slot string
	lost bool // its node was declared down, or removed, while it ran
}

func newWorld() *world {
	return &world{
		Cluster: looptest.New(orchestrator.Loop(), allocator.Loop(), scheduler.Loop(), reaper.Loop()),
		agents:  map[string]*agent{},
	}
}

// begin brings up a cluster in which two services run.
func (w *world) begin(t *rapid.T) {
	for _, node := range []string{"a", "b", "c"} {
		w.setUp(t, node, true)
	}
	w.Draw(t, "service web replicas=2 delay=1s\nservice db replicas=1")
	w.workAll(t, 4)
}

// workAll lets all agents do all that they are told, a few times.
func (w *world) workAll(t *rapid.T, times int) {
	for range times {
		w.Settle(t)
		w.checkLive(t)
		for _, node := range []string{"a", "b", "c"} {
			w.tell(node)
			w.act(t, node, func(string) bool { return true })
			w.checkLive(t)
		}
	}
}

func (w *world) disturb(t *rapid.T) {
	node := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node")
	service := rapid.SampledFrom([]string{"web", "db"}).Draw(t, "service")
	switch rapid.SampledFrom([]string{"act", "act", "act", "act", "act late", "act late", "node", "drain", "remove node", "scale", "update", "remove service", "wait", "kill", "forget"}).Draw(t, "what") {
	case "act":
		w.tell(node)
		w.act(t, node, func(id string) bool { return rapid.Bool().Draw(t, "acts on "+id) })
	case "act late":
		w.act(t, node, func(id string) bool { return rapid.Bool().Draw(t, "acts on "+id) })
	case "node":
		w.setUp(t, node, rapid.Bool().Draw(t, "up"))
	case "drain":
		if w.exists(node) {
			w.Draw(t, fmt.Sprintf("node %s availability=%s", node, rapid.SampledFrom([]string{"active", "drain", "pause"}).Draw(t, "availability")))
		}
	case "remove node":
		w.removeNode(t, node)
	case "scale":
		w.Draw(t, fmt.Sprintf("service %s replicas=%d", service, rapid.IntRange(0, 4).Draw(t, "replicas")))
	case "update":
		w.Draw(t, fmt.Sprintf("service %s image=%d restart=%s delay=%ds", service, rapid.IntRange(1, 3).Draw(t, "image"),
			rapid.SampledFrom([]string{"any", "on-failure", "none"}).Draw(t, "restart"), rapid.IntRange(0, 5).Draw(t, "delay")))
	case "remove service":
		if _, ok := w.Store.Read().Services.Get(service); ok {
			w.Draw(t, "remove service "+service)
		}
	case "wait":
		w.Wait(time.Duration(rapid.IntRange(1, 7000).Draw(t, "ms")) * time.Millisecond)
	case "kill":
		for _, id := range slices.Sorted(maps.Keys(w.agent(node).runs)) {
			w.end(t, node, id, rapid.SampledFrom([]api.TaskState{api.TaskState_FAILED, api.TaskState_COMPLETE}).Draw(t, "ends"))
			break
		}
	case "forget": // another leader: views are built anew
		w.Store.Follow()
		w.Store.Lead(2)
	}
}

func (w *world) agent(node string) *agent {
	a, ok := w.agents[node]
	if !ok {
		a = &agent{told: map[string]api.TaskState{}, runs: map[string]run{}}
		w.agents[node] = a
	}
	return a
}

func (w *world) exists(node string) bool {
	_, ok := w.Store.Read().Nodes.Get(node)
	return ok
}

func (w *world) setUp(t looptest.TB, node string, up bool) {
	w.agent(node).up = up
	if up {
		w.Draw(t, "node "+node+" state=ready")
		w.tell(node)
		return
	}
	if w.exists(node) {
		w.Draw(t, "node "+node+" state=down")
		w.lose(node)
	}
}

func (w *world) removeNode(t looptest.TB, node string) {
	if !w.exists(node) {
		return
	}
	w.agent(node).up = false
	w.lose(node)
	w.Draw(t, "remove node "+node)
}

func (w *world) lose(node string) {
	for id, r := range w.agent(node).runs {
		r.lost = true
		w.agent(node).runs[id] = r
	}
}

// tell brings an agent up to what the manager has for it.
func (w *world) tell(node string) {
	a := w.agent(node)
	if !a.up {
		return
	}
	clear(a.told)
	for t := range w.Store.Read().TasksOn(node) {
		if t.GetStatus().GetState() >= api.TaskState_ASSIGNED {
			a.told[t.GetId()] = t.GetDesiredState()
		}
	}
	for id := range a.runs {
		if _, ok := a.told[id]; !ok {
			delete(a.runs, id) // its record is gone: it is torn down
		}
	}
}

// act lets an agent take one step with some of its tasks.
func (w *world) act(t looptest.TB, node string, some func(id string) bool) {
	a := w.agent(node)
	if !a.up {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(a.told)) {
		task, ok := w.Store.Read().Tasks.Get(id)
		if !ok || model.Terminal(task.GetStatus().GetState()) || !some(id) {
			continue
		}
		_, running := a.runs[id]
		switch desired := a.told[id]; {
		case desired > api.TaskState_RUNNING:
			w.end(t, node, id, api.TaskState_SHUTDOWN)
		case running && task.GetStatus().GetState() < api.TaskState_RUNNING:
			w.Report(t, id, api.TaskState_RUNNING)
		case running:
		case task.GetStatus().GetState() < api.TaskState_READY:
			w.Report(t, id, api.TaskState_READY)
		case desired == api.TaskState_RUNNING:
			a.runs[id] = run{slot: fmt.Sprintf("%s.%d", task.GetServiceId(), task.GetSlot())}
			w.Report(t, id, api.TaskState_STARTING)
		}
	}
}

// end lets a task end; the manager hears of it if it can.
func (w *world) end(t looptest.TB, node, id string, state api.TaskState) {
	delete(w.agent(node).runs, id)
	if _, ok := w.Store.Read().Tasks.Get(id); ok && w.agent(node).up {
		w.Report(t, id, state)
	}
}

// checkLive holds the invariant: of the tasks that really run, leaving out those
// on nodes that were given up, there is one for each slot at most.
func (w *world) checkLive(t *rapid.T) {
	live := map[string][]string{}
	for node, a := range w.agents {
		for id, r := range a.runs {
			if !r.lost {
				live[r.slot] = append(live[r.slot], id+" on "+node)
			}
		}
	}
	for slot, ids := range live {
		if len(ids) > 1 {
			t.Fatalf("two live tasks in %s: %s\n%s", slot, strings.Join(ids, ", "), w.Text())
		}
	}
}

// checkWanted holds what is true whenever nothing is left to plan: every service
// has its slots, and one task at most is wanted in each.
func (w *world) checkWanted(t *rapid.T) {
	s := w.Store.Read()
	wanted, members := map[string]int{}, map[string]map[uint64]bool{}
	for _, task := range w.Tasks() {
		id := task.GetServiceId()
		if model.Wanted(task.GetDesiredState()) {
			wanted[fmt.Sprintf("%s.%d", id, task.GetSlot())]++
		}
		if task.GetDesiredState() < api.TaskState_REMOVE {
			if members[id] == nil {
				members[id] = map[uint64]bool{}
			}
			members[id][task.GetSlot()] = true
		}
	}
	for slot, n := range wanted {
		if n > 1 {
			t.Fatalf("%d tasks are wanted in %s\n%s", n, slot, w.Text())
		}
	}
	for _, id := range []string{"web", "db"} {
		svc, _ := s.Services.Get(id)
		if got, want := uint64(len(members[id])), svc.GetSpec().GetReplicated().GetReplicas(); got != want {
			t.Fatalf("%s has %d slots, want %d\n%s", id, got, want, w.Text())
		}
	}
}

// heal makes all well and checks that every service comes to what it asks for.
func (w *world) heal(t *rapid.T) {
	for _, node := range []string{"a", "b", "c"} {
		w.setUp(t, node, true)
		w.Draw(t, "node "+node+" availability=active")
	}
	w.Do(t, func(tx *store.Tx) error { // so that all that ended is run again
		for svc := range tx.Services.All() {
			svc = model.Shallow(svc)
			svc.Spec = model.Shallow(svc.GetSpec())
			svc.Spec.Task = model.Shallow(svc.GetSpec().GetTask())
			svc.Spec.Task.ForceUpdate++
			svc.SpecVersion = &api.Version{Index: svc.GetMeta().GetVersion().GetIndex()}
			if err := tx.Update(svc); err != nil {
				return err
			}
		}
		return nil
	})
	for range 3 {
		w.workAll(t, 4)
		w.Wait(5 * time.Second)
	}
	w.workAll(t, 4)
	running := map[string]uint64{}
	for _, task := range w.Tasks() {
		if task.GetStatus().GetState() == api.TaskState_RUNNING && task.GetDesiredState() == api.TaskState_RUNNING {
			running[task.GetServiceId()]++
		}
	}
	for svc := range w.Store.Read().Services.All() {
		if got, want := running[svc.GetId()], svc.GetSpec().GetReplicated().GetReplicas(); got != want {
			t.Fatalf("%d tasks of %s run, want %d\n%s", got, svc.GetId(), want, w.Text())
		}
	}
}
