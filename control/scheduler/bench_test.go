package scheduler

import (
	"fmt"
	"testing"

	"skep/api"
	"skep/model"
	"skep/store"
)

// BenchmarkDecisions measures decisions alone: pick a node, count the task on it.
func BenchmarkDecisions(b *testing.B) {
	for _, nodes := range []int{1_000, 10_000, 100_000} {
		for _, tasks := range []int{1_000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("service=one/nodes=%d/tasks=%d", nodes, tasks), func(b *testing.B) {
				decide(b, nodes, tasks, func(i int) *api.Task { return pendingTask(i, "web", nil) })
			})
			b.Run(fmt.Sprintf("service=each/nodes=%d/tasks=%d", nodes, tasks), func(b *testing.B) {
				decide(b, nodes, tasks, func(i int) *api.Task { return pendingTask(i, fmt.Sprintf("s%d", i), nil) })
			})
			b.Run(fmt.Sprintf("service=rare/nodes=%d/tasks=%d", nodes, tasks), func(b *testing.B) {
				rare := &api.TaskSpec{Placement: &api.Placement{Constraints: []string{"node.labels.rare==yes"}}}
				decide(b, nodes, tasks, func(i int) *api.Task { return pendingTask(i, "web", rare) })
			})
		}
	}
}

func decide(b *testing.B, nodes, tasks int, task func(i int) *api.Task) {
	pendings := make([]*api.Task, tasks)
	for i := range pendings {
		pendings[i] = task(i)
	}
	running := &api.TaskStatus{State: api.TaskState_ASSIGNED}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		v := manyNodes(b, nodes)
		for _, t := range pendings {
			v.applyTask(nil, t)
		}
		for _, p := range v.pools {
			v.board(p, nil, groupKey{}) // as it is in a cluster that is at work
		}
		byID := make(map[string]*api.Task, tasks)
		for _, t := range pendings {
			byID[t.GetId()] = t
		}
		b.StartTimer()
		placed := 0
		for _, c := range v.classes {
			for c.tasks > 0 {
				g := c.first()
				t := byID[g.tasks.first()]
				n := v.pick(c, g)
				if n == nil {
					b.Fatal("nothing fits")
				}
				next := model.Shallow(t)
				next.NodeId, next.Status = n.id, running
				v.applyTask(t, next)
				placed++
			}
		}
		if placed != tasks {
			b.Fatalf("placed %d of %d", placed, tasks)
		}
	}
	b.ReportMetric(float64(tasks)*float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(tasks)/float64(b.N), "ns/decision")
}

func pendingTask(i int, service string, spec *api.TaskSpec) *api.Task {
	return &api.Task{
		Id: fmt.Sprintf("task%020d", i), ServiceId: service, Slot: uint64(i), SpecVersion: &api.Version{Index: 1}, Spec: spec,
		Status: &api.TaskStatus{State: api.TaskState_PENDING}, DesiredState: api.TaskState_RUNNING,
	}
}

func manyNodes(b *testing.B, n int) *view {
	b.Helper()
	v := &view{}
	v.Build(store.NewLocal(store.Config{}).Read())
	for i := range n {
		v.applyNode(nil, benchNode(i))
	}
	return v
}

func benchNode(i int) *api.Node {
	labels := map[string]string{"zone": fmt.Sprint(i % 10)}
	if i%100 == 0 {
		labels["rare"] = "yes"
	}
	return &api.Node{
		Id:     fmt.Sprintf("%07x%018d", uint32(i)*2654435761>>4, i),
		Spec:   &api.NodeSpec{Annotations: &api.Annotations{Labels: labels}},
		Status: &api.NodeStatus{State: api.NodeStatus_READY},
		Description: &api.NodeDescription{
			Resources: &api.Resources{NanoCpus: 64e9, MemoryBytes: 256 << 30},
		},
	}
}

// BenchmarkAnEventWhileServicesFitNowhere measures a task that ends and another
// that comes to its node, with many services that wait for room.
func BenchmarkAnEventWhileServicesFitNowhere(b *testing.B) {
	for _, waiting := range []int{0, 1_000, 10_000} {
		for _, alike := range []bool{true, false} {
			b.Run(fmt.Sprintf("waiting=%d/alike=%v", waiting, alike), func(b *testing.B) {
				v := manyNodes(b, 1_000)
				for i := range waiting {
					cpu := int64(1000e9)
					if !alike {
						cpu += int64(i)
					}
					spec := &api.TaskSpec{Resources: &api.ResourceRequirements{Reservations: &api.Resources{NanoCpus: cpu}}}
					v.applyTask(nil, pendingTask(i, fmt.Sprintf("big%d", i), spec))
				}
				for _, c := range v.classes {
					if v.pick(c, c.first()) != nil {
						b.Fatal("it fits")
					}
					v.wait(c)
				}
				node := v.nodes[7]
				run := pendingTask(1<<30, "web", nil)
				run.NodeId, run.Status = node.id, &api.TaskStatus{State: api.TaskState_RUNNING}
				end := model.Shallow(run)
				end.Status = &api.TaskStatus{State: api.TaskState_COMPLETE}
				b.ReportAllocs()
				for b.Loop() {
					v.applyTask(nil, run)
					v.applyTask(run, end)
					v.woken = v.woken[:0]
				}
			})
		}
	}
}
