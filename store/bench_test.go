package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
	"skep/store"
)

// cluster fills a store with services of 1,000 tasks each on 1,000 nodes.
// Tasks are of a real one's size: about 600 bytes encoded.
func cluster(b testing.TB, tasks int) (s *store.Store, ids []string) {
	b.Helper()
	s = store.NewLocal(store.Config{})
	return s, populate(b, s, tasks)
}

func populate(b testing.TB, s *store.Store, tasks int) (ids []string) {
	b.Helper()
	var v *api.Service
	for i := 0; i < tasks; {
		must(b, s.Update(context.Background(), func(tx *store.Tx) error {
			if i%1000 == 0 {
				v = benchService(i / 1000)
				must(b, tx.Create(v))
			}
			for range min(500, tasks-i) {
				ids = append(ids, fmt.Sprintf("task%021d", i))
				must(b, tx.Create(benchTask(ids[i], v, fmt.Sprintf("node%021d", i%1000), uint64(i%1000+1))))
				i++
			}
			return nil
		}))
	}
	return ids
}

func benchService(i int) *api.Service {
	name := fmt.Sprintf("service-%d", i)
	return &api.Service{
		Id: fmt.Sprintf("service%018d", i),
		Spec: &api.ServiceSpec{
			Annotations: &api.Annotations{Name: name, Labels: map[string]string{"com.example.stack": "shop"}},
			Task: &api.TaskSpec{
				Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{
					Image:   "registry.example.com/shop/" + name + ":1.2.3@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
					Command: []string{"/usr/bin/server", "--listen", ":8080"},
					Env:     []string{"PATH=/usr/bin:/bin", "MODE=production", "REGION=eu-central-1"},
				}},
				Resources: &api.ResourceRequirements{Reservations: &api.Resources{NanoCpus: 1e8, MemoryBytes: 1 << 26}},
				Restart:   &api.RestartPolicy{Delay: durationpb.New(5e9)},
				Placement: &api.Placement{Constraints: []string{"node.role==worker", "node.labels.zone==a"}},
			},
		},
		SpecVersion: &api.Version{Index: 1},
	}
}

func benchTask(id string, v *api.Service, node string, slot uint64) *api.Task {
	return &api.Task{
		Id: id, Spec: v.Spec.Task, SpecVersion: v.SpecVersion, ServiceId: v.Id, Slot: slot, NodeId: node,
		ServiceAnnotations: v.Spec.Annotations,
		Annotations:        &api.Annotations{Name: fmt.Sprintf("%s.%d.%s", v.Spec.Annotations.Name, slot, id)},
		Status:             &api.TaskStatus{Timestamp: timestamppb.Now(), State: api.TaskState_RUNNING, Message: "started"},
		DesiredState:       api.TaskState_RUNNING,
	}
}

// report gives a task a new status, as an agent's report does.
func report(tx *store.Tx, id string, n int) error {
	old, _ := tx.Tasks.Get(id)
	t := model.Shallow(old)
	t.Status = &api.TaskStatus{
		Timestamp: &timestamppb.Timestamp{Seconds: int64(n)}, State: api.TaskState_RUNNING, Message: "started",
		RuntimeStatus: &api.TaskStatus_Container{Container: &api.ContainerStatus{ContainerId: "0123456789abcdef", Pid: int32(n)}},
	}
	return tx.Update(t)
}

// cpuTime is what the process has used so far, the collector included: on a
// machine that others use it says more than the time that has passed.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// P1 of performance.md.
func BenchmarkUpdateTaskStatus(b *testing.B) {
	s, ids := cluster(b, 100_000)
	n := 0 // never the same status twice: that would be no write
	for _, watchers := range []int{0, 1_000, 10_000} {
		subs := make([]*store.Subscription, watchers)
		for i := range subs {
			_, subs[i] = s.Subscribe(100, store.NodeTasks(fmt.Sprintf("node%021d", i)))
		}
		for _, batch := range []int{1, 100} {
			b.Run(fmt.Sprintf("tasks=100000/watchers=%d/batch=%d", watchers, batch), func(b *testing.B) {
				b.ReportAllocs()
				first, cpu := n, cpuTime()
				for b.Loop() {
					must(b, s.Update(context.Background(), func(tx *store.Tx) error {
						for range batch {
							n++
							if err := report(tx, ids[n*7919%len(ids)], n); err != nil {
								return err
							}
						}
						return nil
					}))
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n-first), "ns/task")
				b.ReportMetric(float64(cpuTime()-cpu)/float64(n-first), "cpu-ns/task")
			})
		}
		for _, sub := range subs {
			sub.Close()
		}
	}
}

// asyncLog applies what it is given on a goroutine of its own, all that has
// gathered at once, as raft does when it is the only voter; without a disk.
type asyncLog struct {
	store *store.Store
	given chan [][]byte
	index uint64
}

func (l *asyncLog) Propose(data [][]byte) { l.given <- data }

func (l *asyncLog) run(b testing.TB) {
	for data := range l.given {
		for _, d := range data {
			l.index++
			if err := l.store.Apply(store.Entry{Index: l.index, Term: 1, Data: d}); err != nil {
				b.Error(err)
			}
		}
	}
}

func BenchmarkConcurrentWriters(b *testing.B) {
	for _, clients := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			log := &asyncLog{given: make(chan [][]byte, 1024)}
			log.store = store.New(store.Config{Log: log})
			log.store.Lead(1)
			go log.run(b)
			defer close(log.given)
			var ids atomic.Uint64
			b.ReportAllocs()
			b.SetParallelism((clients + 1) / 2) // for each of the processors, of which these machines have two
			cpu := cpuTime()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					id := fmt.Sprintf("%025d", ids.Add(1))
					if err := log.store.Update(context.Background(), create(&api.Config{Id: id, Spec: &api.ConfigSpec{
						Annotations: &api.Annotations{Name: id}, Data: []byte("something to configure"),
					}})); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/write")
		})
	}
}

// P9 of performance.md: events for 1,000 nodes, to watchers of one node each, of
// which one never takes anything.
func BenchmarkFanOut(b *testing.B) {
	for _, watchers := range []int{10, 1_000, 10_000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			s := store.NewLocal(store.Config{})
			subs := make([]*store.Subscription, watchers)
			for i := range subs {
				_, subs[i] = s.Subscribe(1000, store.NodeTasks(fmt.Sprintf("node%021d", i)))
			}
			v := benchService(1)
			commit := store.Commit{Changes: make([]store.Change, 1000)}
			for i := range commit.Changes {
				k := benchTask(fmt.Sprintf("task%021d", i), v, fmt.Sprintf("node%021d", i), 1)
				commit.Changes[i] = store.Change{Kind: store.KindTask, Old: k, New: k}
			}
			b.ReportAllocs()
			n, cpu := 0, cpuTime()
			for b.Loop() {
				commit.Index++
				store.Publish(s, commit)
				for _, sub := range subs[1:] {
					select {
					case <-sub.Ready():
						sub.Take()
					default:
					}
				}
				n += len(commit.Changes)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(cpuTime()-cpu)/float64(n), "cpu-ns/event")
		})
	}
}

// P11 of performance.md: what a restart reads and a snapshot writes.
func BenchmarkSaveAndRestore(b *testing.B) {
	s, _ := cluster(b, 100_000)
	data := saved(b, s.Read())
	b.Run("tasks=100000/save", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(data)))
		cpu := cpuTime()
		for b.Loop() {
			if _, err := s.Read().WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N), "cpu-s/op")
	})
	b.Run("tasks=100000/restore", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(data)))
		cpu := cpuTime()
		for b.Loop() {
			must(b, store.New(store.Config{}).Restore(bytes.NewReader(data)))
		}
		b.ReportMetric((cpuTime()-cpu).Seconds()/float64(b.N), "cpu-s/op")
	})
}

// keptLog applies at once, and keeps what it was given.
type keptLog struct {
	store   *store.Store
	entries []store.Entry
}

func (l *keptLog) Propose(data [][]byte) {
	for _, d := range data {
		e := store.Entry{Index: uint64(len(l.entries)) + 1, Term: 1, Data: d}
		l.entries = append(l.entries, e)
		if err := l.store.Apply(e); err != nil {
			panic(err)
		}
	}
}

// P11 of performance.md: what a restart replays behind the snapshot that it begins with. Nobody
// subscribes to anything yet.
func BenchmarkReplay(b *testing.B) {
	const tasks = 100_000
	for _, each := range []int{1, 100} { // tasks that one entry is about
		b.Run(fmt.Sprintf("tasks=%d/batch=%d", tasks, each), func(b *testing.B) {
			log := &keptLog{}
			log.store = store.New(store.Config{Log: log})
			log.store.Lead(1)
			ids := populate(b, log.store, tasks)
			data, from := saved(b, log.store.Read()), len(log.entries)
			for i := 0; i < tasks; {
				must(b, log.store.Update(context.Background(), func(tx *store.Tx) error {
					for range each {
						if err := report(tx, ids[i*7919%tasks], i); err != nil {
							return err
						}
						i++
					}
					return nil
				}))
			}
			entries, size := log.entries[from:], 0
			for _, e := range entries {
				size += len(e.Data)
			}
			log.store = nil
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				s := store.New(store.Config{})
				must(b, s.Restore(bytes.NewReader(data)))
				runtime.GC()
				began := cpuTime()
				b.StartTimer()
				must(b, s.Apply(entries...))
				cpu += cpuTime() - began
			}
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}
