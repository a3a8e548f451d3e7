package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// BenchmarkPipeline measures all loops over a store whose log is memory: from the
// creation of a service until every task is assigned.
func BenchmarkPipeline(b *testing.B) {
	for _, c := range []struct{ nodes, replicas int }{{1, 1}, {1_000, 1_000}, {1_000, 10_000}, {1_000, 100_000}} {
		b.Run(fmt.Sprintf("nodes=%d/tasks=%d", c.nodes, c.replicas), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := store.NewLocal(store.Config{})
				r := benchRunner(b, s, c.nodes)
				b.StartTimer()
				create(b, s, c.replicas)
				settle(b, r)
				b.StopTimer()
				assigned := 0
				for t := range s.Read().Tasks.All() {
					if t.GetStatus().GetState() == api.TaskState_ASSIGNED {
						assigned++
					}
				}
				if assigned != c.replicas {
					b.Fatalf("%d tasks are assigned, want %d", assigned, c.replicas)
				}
				r.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(c.replicas)/float64(b.N), "µs/task")
		})
	}
}

// BenchmarkPlans measures what 10,000 running tasks on 1,000 nodes cost when
// something happens to many of them at once.
func BenchmarkPlans(b *testing.B) {
	const nodes, replicas = 1_000, 10_000
	for name, happen := range map[string]func(tx *store.Tx) error{
		"leadership": nil,
		"node=down": func(tx *store.Tx) error {
			n, _ := tx.Nodes.Get(nodeID(7))
			n = model.Shallow(n)
			n.Status = &api.NodeStatus{State: api.NodeStatus_DOWN}
			return tx.Update(n)
		},
		"scale=0": func(tx *store.Tx) error {
			return change(tx, func(spec *api.ServiceSpec) {
				spec.Mode = &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{}}
			})
		},
		"scale=5000": func(tx *store.Tx) error {
			return change(tx, func(spec *api.ServiceSpec) {
				spec.Mode = &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: replicas / 2}}
			})
		},
		"update": func(tx *store.Tx) error {
			return change(tx, func(spec *api.ServiceSpec) {
				spec.Task = model.Shallow(spec.GetTask())
				spec.Task.ForceUpdate++
			})
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := store.NewLocal(store.Config{})
				r := benchRunner(b, s, nodes)
				create(b, s, replicas)
				settle(b, r)
				b.StartTimer()
				if happen == nil {
					s.Follow()
					s.Lead(2)
				} else if err := s.Update(b.Context(), happen); err != nil {
					b.Fatal(err)
				}
				settle(b, r)
				b.StopTimer()
				r.Close()
				b.StartTimer()
			}
		})
	}
}

func change(tx *store.Tx, f func(*api.ServiceSpec)) error {
	svc, _ := tx.Services.Get("web")
	svc = model.Shallow(svc)
	svc.Spec = model.Shallow(svc.GetSpec())
	f(svc.Spec)
	svc.SpecVersion = &api.Version{Index: svc.GetMeta().GetVersion().GetIndex()}
	return tx.Update(svc)
}

func nodeID(i int) string { return fmt.Sprintf("node%021d", i) }

func benchRunner(b *testing.B, s *store.Store, nodes int) *loop.Runner {
	b.Helper()
	if err := s.Update(b.Context(), func(tx *store.Tx) error {
		for i := range nodes {
			if err := tx.Create(&api.Node{
				Id:          nodeID(i),
				Spec:        &api.NodeSpec{},
				Status:      &api.NodeStatus{State: api.NodeStatus_READY},
				Description: &api.NodeDescription{Hostname: fmt.Sprintf("n%d", i), Resources: &api.Resources{NanoCpus: 8e9, MemoryBytes: 32 << 30}},
			}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	ids := 0
	r := loop.NewRunner(loop.Config{
		Store: s,
		Loops: loops(),
		NewID: func() string { ids++; return "task" + strconv.Itoa(1e8+ids) + "0123456789ab" },
		Rand:  rand.New(rand.NewPCG(1, 1)),
	})
	settle(b, r)
	return r
}

func create(b *testing.B, s *store.Store, replicas int) {
	b.Helper()
	if err := s.Update(b.Context(), func(tx *store.Tx) error {
		return tx.Create(&api.Service{Id: "web", Spec: &api.ServiceSpec{
			Annotations: &api.Annotations{Name: "web"},
			Task:        &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "docker.io/library/nginx:latest", Env: []string{"A=b"}}}},
			Mode:        &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: uint64(replicas)}},
		}, SpecVersion: &api.Version{Index: 1}})
	}); err != nil {
		b.Fatal(err)
	}
}

func settle(b *testing.B, r *loop.Runner) {
	b.Helper()
	for {
		_, busy, err := r.Step(time.Now())
		if err != nil {
			b.Fatal(err)
		}
		if !busy {
			return
		}
	}
}
