package agent_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/agent"
	"skep/agent/exec"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/internal/inproc"
)

// manager is the other end, played by a test: it does what it is told, right or
// wrong.
type manager struct {
	api.UnimplementedDispatcherServer
	// assignments serves a stream, the n-th, counted from 1.
	assignments func(n int, send func(*api.AssignmentsMessage)) error
	tasks       func(send func(*api.TasksMessage)) error
	// silent keeps the first message of a session back.
	silent bool
	// slow is how long a report takes.
	slow time.Duration
	// answer is the error of a report.
	answer error

	mu       sync.Mutex
	requests []*api.SessionRequest
	began    []time.Time
	streams  int
	reports  [][]*api.UpdateTaskStatusRequest_TaskStatusUpdate
}

func (m *manager) Session(request *api.SessionRequest, stream grpc.ServerStreamingServer[api.SessionMessage]) error {
	m.mu.Lock()
	m.requests = append(m.requests, request)
	m.began = append(m.began, time.Now())
	id := fmt.Sprint("session", len(m.requests))
	silent := m.silent
	m.mu.Unlock()
	if !silent {
		if err := stream.Send(&api.SessionMessage{SessionId: id, Node: &api.Node{Id: "n"}}); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func (m *manager) Heartbeat(context.Context, *api.HeartbeatRequest) (*api.HeartbeatResponse, error) {
	return &api.HeartbeatResponse{Period: durationpb.New(5 * time.Second)}, nil
}

func (m *manager) Assignments(_ *api.AssignmentsRequest, stream grpc.ServerStreamingServer[api.AssignmentsMessage]) error {
	if m.assignments == nil {
		return status.Error(codes.Unimplemented, "not here")
	}
	m.mu.Lock()
	m.streams++
	n := m.streams
	m.mu.Unlock()
	err := m.assignments(n, func(message *api.AssignmentsMessage) { _ = stream.Send(message) })
	if err == nil {
		<-stream.Context().Done()
	}
	return err
}

func (m *manager) Tasks(_ *api.TasksRequest, stream grpc.ServerStreamingServer[api.TasksMessage]) error {
	err := m.tasks(func(message *api.TasksMessage) { _ = stream.Send(message) })
	if err == nil {
		<-stream.Context().Done()
	}
	return err
}

func (m *manager) UpdateTaskStatus(ctx context.Context, request *api.UpdateTaskStatusRequest) (*api.UpdateTaskStatusResponse, error) {
	m.mu.Lock()
	m.reports = append(m.reports, request.GetUpdates())
	slow, answer := m.slow, m.answer
	m.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
	}
	return &api.UpdateTaskStatusResponse{}, answer
}

// sessions returns how many sessions there were.
func (m *manager) sessions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.requests)
}

// opened returns how many streams of assignments there were.
func (m *manager) opened() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.streams
}

// request returns the n-th request for a session, counted from 0.
func (m *manager) request(n int) *api.SessionRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests[n]
}

// reported returns the newest state of each task.
func (m *manager) reported() map[string]api.TaskState {
	m.mu.Lock()
	defer m.mu.Unlock()
	states := map[string]api.TaskState{}
	for _, updates := range m.reports {
		for _, u := range updates {
			states[u.GetTaskId()] = u.GetStatus().GetState()
		}
	}
	return states
}

// worker is a running agent and what it runs on.
type worker struct {
	*agent.Agent
	executor exec.Executor
	storage  agent.Storage
	stop     func()
}

// run starts an agent of manager with executor and storage, until stop.
func run(t *testing.T, m *manager, executor exec.Executor, storage agent.Storage) *worker {
	t.Helper()
	w := &worker{executor: executor, storage: storage}
	var err error
	w.Agent, err = agent.New(agent.Config{
		NodeID: "n", Executor: executor, Storage: storage,
		Connect: func(context.Context) (grpc.ClientConnInterface, func(error), error) {
			conn := &inproc.Conn{}
			api.RegisterDispatcherServer(conn, m)
			return conn, func(error) { conn.Close() }, nil
		},
		Random: func() float64 { return 0.5 },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	return w
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func complete(resultsIn string, changes ...*api.AssignmentChange) *api.AssignmentsMessage {
	return &api.AssignmentsMessage{Type: api.AssignmentsMessage_COMPLETE, ResultsIn: resultsIn, Changes: changes}
}

func incremental(appliesTo, resultsIn string, changes ...*api.AssignmentChange) *api.AssignmentsMessage {
	return &api.AssignmentsMessage{Type: api.AssignmentsMessage_INCREMENTAL, AppliesTo: appliesTo, ResultsIn: resultsIn, Changes: changes}
}

func assign(id string) *api.AssignmentChange { return change(task(id)) }

func change(task *api.Task) *api.AssignmentChange {
	return &api.AssignmentChange{Assignment: &api.Assignment{Item: &api.Assignment_Task{Task: task}}}
}

func withdraw(id string) *api.AssignmentChange {
	c := change(&api.Task{Id: id})
	c.Action = api.AssignmentChange_REMOVE
	return c
}

func task(id string) *api.Task {
	return &api.Task{
		Id: id, NodeId: "n", DesiredState: api.TaskState_RUNNING,
		Status: &api.TaskStatus{State: api.TaskState_ASSIGNED},
		Spec:   &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "web"}}},
	}
}

// pass lets time pass in the bubble, and all that follows from it happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func machine() *fake.Executor { return fake.New(fake.Config{}) }
