package dispatcher_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/agent"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/internal/inproc"
	"skep/rpc"
	"skep/rpc/dispatcher"
	"skep/store"
)

func benchmarked(b testing.TB, nodes, tasks int) (*store.Store, *dispatcher.Dispatcher) {
	b.Helper()
	s := store.NewLocal(store.Config{})
	for n := range nodes {
		err := s.Update(b.Context(), func(tx *store.Tx) error {
			node := fmt.Sprint("n", n)
			if err := tx.Create(&api.Node{Id: node, Spec: &api.NodeSpec{}}); err != nil {
				return err
			}
			for t := range tasks {
				if err := tx.Create(task(fmt.Sprint(node, "t", t), node)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	var mu sync.Mutex
	ids := 0
	d := dispatcher.New(dispatcher.Config{
		Store: s, NodeID: "m",
		Peers: func() ([]*api.WeightedPeer, <-chan struct{}) { return nil, nil },
		NewID: func() string {
			mu.Lock()
			defer mu.Unlock()
			ids++
			return fmt.Sprint(ids)
		},
	})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return s, d
}

func connect(d *dispatcher.Dispatcher, node string) *inproc.Conn {
	conn := &inproc.Conn{Admit: func(ctx context.Context) context.Context {
		return rpc.WithCaller(ctx, rpc.Identity{NodeID: node, Addr: "192.0.2.1:1"})
	}}
	api.RegisterDispatcherServer(conn, d)
	return conn
}

// BenchmarkStatuses is what a manager does with the reports of many nodes, each
// with an open stream of assignments, without log and network.
func BenchmarkStatuses(b *testing.B) {
	for _, size := range []struct{ nodes, tasks int }{{1, 100}, {1000, 100}} {
		b.Run(fmt.Sprintf("nodes=%d/tasks=%d", size.nodes, size.tasks), func(b *testing.B) {
			_, d := benchmarked(b, size.nodes, size.tasks)
			sessions := make([]string, size.nodes)
			for n := range sessions {
				client := api.NewDispatcherClient(connect(d, fmt.Sprint("n", n)))
				var message *api.SessionMessage
				for message == nil {
					stream, err := client.Session(b.Context(), &api.SessionRequest{})
					if err != nil {
						b.Fatal(err)
					}
					message, _ = stream.Recv() // until the dispatcher runs
				}
				sessions[n] = message.GetSessionId()
				assignments, err := client.Assignments(b.Context(), &api.AssignmentsRequest{SessionId: sessions[n]})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := assignments.Recv(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			statuses, round := 0, 0
			for b.Loop() {
				n := round % size.nodes
				node := fmt.Sprint("n", n)
				request := &api.UpdateTaskStatusRequest{SessionId: sessions[n]}
				for t := range size.tasks {
					u := update(fmt.Sprint(node, "t", t), api.TaskState_RUNNING)
					u.Status.Timestamp = timestamppb.New(time.Unix(int64(round), 0))
					request.Updates = append(request.Updates, u)
				}
				ctx := rpc.WithCaller(b.Context(), rpc.Identity{NodeID: node})
				if _, err := d.UpdateTaskStatus(ctx, request); err != nil {
					b.Fatal(err)
				}
				statuses += size.tasks
				round++
			}
			b.ReportMetric(float64(statuses)/b.Elapsed().Seconds(), "statuses/s")
		})
	}
}

// BenchmarkIdleAgents is what agents and their sessions cost in memory, both
// ends together, without what gRPC needs for the connections.
func BenchmarkIdleAgents(b *testing.B) {
	const agents = 1000
	for b.Loop() {
		s, d := benchmarked(b, agents, 0)
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(b.Context())
		executor := fake.New(fake.Config{})
		for n := range agents {
			node := fmt.Sprint("n", n)
			a, err := agent.New(agent.Config{NodeID: node, Executor: executor, Connect: func(context.Context) (grpc.ClientConnInterface, func(error), error) {
				conn := connect(d, node)
				return conn, func(error) { conn.Close() }, nil
			}})
			if err != nil {
				b.Fatal(err)
			}
			running.Go(func() {
				if err := a.Run(ctx); err != nil {
					b.Error(err)
				}
			})
		}
		for ready := 0; ready < agents; {
			<-time.After(10 * time.Millisecond)
			ready = 0
			for node := range s.Read().Nodes.All() {
				if node.GetStatus().GetState() == api.NodeStatus_READY {
					ready++
				}
			}
		}
		<-time.After(100 * time.Millisecond) // and their streams are open
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/agents, "heap-B/agent")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/agents, "stack-B/agent")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/agents, "goroutines/agent")
		cancel()
		running.Wait()
	}
}
