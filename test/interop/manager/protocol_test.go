package manager

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/types"
	"github.com/moby/swarmkit/v2/api"
	"google.golang.org/grpc/codes"
)

// node speaks the Dispatcher protocol by hand, message by message.
type node struct {
	member
	api.DispatcherClient
	m       *swarmd
	session string
	stream  api.Dispatcher_SessionClient
	// last is what the last message of assignments resulted in, and the maps are
	// what the node holds by now.
	last    string
	tasks   map[string]*api.Task
	secrets map[string]bool
	configs map[string]bool
}

// node joins and does not register yet.
func (m *swarmd) joined(t *testing.T) *node {
	t.Helper()
	n := &node{member: m.member(t, m.cluster(t).RootCA.JoinTokens.Worker), m: m}
	n.DispatcherClient = api.NewDispatcherClient(m.dial(t, n.security.ClientTLSCreds))
	return n
}

// register opens a session and returns its first message.
func (n *node) register(t *testing.T, session string) *api.SessionMessage {
	t.Helper()
	n.stream = must(n.Session(n.m.ctx, &api.SessionRequest{
		SessionID: session, Description: &api.NodeDescription{Hostname: "by-hand", Platform: &api.Platform{OS: "linux", Architecture: "x86_64"}, Resources: &api.Resources{NanoCPUs: 1e9, MemoryBytes: 1 << 30}},
	}))(t)
	first := must(n.stream.Recv())(t)
	n.session = first.SessionID
	return first
}

// assigned opens the assignments and takes the first message.
func (n *node) assigned(t *testing.T) api.Dispatcher_AssignmentsClient {
	t.Helper()
	n.last, n.tasks, n.secrets, n.configs = "", map[string]*api.Task{}, map[string]bool{}, map[string]bool{}
	stream := must(n.Assignments(n.m.ctx, &api.AssignmentsRequest{SessionID: n.session}))(t)
	n.take(t, stream, api.AssignmentsMessage_COMPLETE)
	if n.last != "1" {
		t.Errorf("the first assignments result in %q, want \"1\"", n.last)
	}
	return stream
}

// take applies one message of assignments, and checks that it follows the last
// one and that no task lacks what it refers to.
func (n *node) take(t *testing.T, stream api.Dispatcher_AssignmentsClient, want api.AssignmentsMessage_Type) {
	t.Helper()
	message := must(stream.Recv())(t)
	if message.Type != want || message.AppliesTo != n.last || message.ResultsIn == n.last {
		t.Fatalf("assignments of type %v from %q to %q, want %v from %q", message.Type, message.AppliesTo, message.ResultsIn, want, n.last)
	}
	n.last = message.ResultsIn
	for _, c := range message.Changes {
		keep := c.Action == api.AssignmentChange_AssignmentActionUpdate
		switch item := c.Assignment.Item.(type) {
		case *api.Assignment_Secret:
			n.secrets[item.Secret.ID] = keep && len(item.Secret.Spec.Data) > 0
		case *api.Assignment_Config:
			n.configs[item.Config.ID] = keep && len(item.Config.Spec.Data) > 0
		case *api.Assignment_Task:
			if delete(n.tasks, item.Task.ID); keep {
				n.tasks[item.Task.ID] = item.Task
			}
		}
	}
	for _, task := range n.tasks {
		if task.Status.State > api.TaskStateRunning || task.DesiredState > api.TaskStateRunning {
			continue
		}
		for _, ref := range task.Spec.GetContainer().Secrets {
			if !n.secrets[ref.SecretID] {
				t.Errorf("task %s was assigned before its secret", task.ID)
			}
		}
		for _, ref := range task.Spec.GetContainer().Configs {
			if !n.configs[ref.ConfigID] {
				t.Errorf("task %s was assigned before its config", task.ID)
			}
		}
	}
}

// takeUntil takes increments until the node holds what it should.
func (n *node) takeUntil(t *testing.T, stream api.Dispatcher_AssignmentsClient, holds func() bool) {
	t.Helper()
	for !holds() {
		n.take(t, stream, api.AssignmentsMessage_INCREMENTAL)
	}
}

// report says that a task is in a state.
func (n *node) report(task string, state api.TaskState) error {
	return errorOf(n.UpdateTaskStatus(n.m.ctx, &api.UpdateTaskStatusRequest{
		SessionID: n.session,
		Updates:   []*api.UpdateTaskStatusRequest_TaskStatusUpdate{{TaskID: task, Status: &api.TaskStatus{State: state, Message: "by hand"}}},
	}))
}

func TestASessionBeginsWithAllThatANodeNeeds(t *testing.T) {
	t.Parallel()
	m := start(t)
	n := m.joined(t)
	first := n.register(t, "")
	if first.SessionID == "" || first.Node.GetID() != n.id || string(first.RootCA) != string(n.security.RootCA().Certs) {
		t.Errorf("first message is %v, want a session, the node itself and the root it trusts", first)
	}
	if len(first.Managers) != 1 || first.Managers[0].Peer.Addr != m.addr || first.Managers[0].Peer.NodeID != m.own || first.Managers[0].Weight != 10 {
		t.Errorf("managers are %v, want %s at %s with weight 10", first.Managers, m.own, m.addr)
	}
	if beat := must(n.Heartbeat(m.ctx, &api.HeartbeatRequest{SessionID: n.session}))(t); beat.Period < 4*time.Second || beat.Period > 6*time.Second {
		t.Errorf("next heartbeat in %v, want about 5s", beat.Period)
	}

	// A change of the node is sent whole.
	now := m.node(t, n.id)
	now.Spec.Annotations.Labels = map[string]string{"zone": "a"}
	must(m.UpdateNode(m.ctx, &api.UpdateNodeRequest{NodeID: n.id, NodeVersion: &now.Meta.Version, Spec: &now.Spec}))(t)
	for {
		next := must(n.stream.Recv())(t)
		if next.SessionID != first.SessionID || len(next.Managers) != 1 || len(next.RootCA) == 0 || next.Node == nil {
			t.Fatalf("a later message is %v, want it complete", next)
		}
		if next.Node.Spec.Annotations.Labels["zone"] == "a" {
			return
		}
	}
}

func TestAssignmentsFollowEachOtherWithoutGaps(t *testing.T) {
	t.Parallel()
	m := start(t)
	n := m.joined(t)
	n.register(t, "")
	assignments := n.assigned(t)
	if len(n.tasks) > 0 {
		t.Errorf("a new node has tasks %v", n.tasks)
	}
	secret, config := m.createSecret(t, "password", "hunter2"), m.createConfig(t, "web.conf", "listen 80")
	web := m.create(t, withFiles(service("web", 2), secret, config))
	n.takeUntil(t, assignments, func() bool { return len(n.tasks) == 2 })
	for id, task := range n.tasks {
		if task.ServiceID != web.ID || task.ServiceAnnotations.Name != "web" || task.Slot == 0 || task.NodeID != n.id ||
			task.DesiredState != api.TaskStateRunning || task.Status.State != api.TaskStateAssigned {
			t.Errorf("assigned %v", task)
		}
		for _, state := range []api.TaskState{api.TaskStateAccepted, api.TaskStatePreparing, api.TaskStateReady, api.TaskStateStarting, api.TaskStateRunning} {
			if err := n.report(id, state); err != nil {
				t.Fatal(err)
			}
			// An answer means that it is committed.
			if got := must(m.GetTask(m.ctx, &api.GetTaskRequest{TaskID: id}))(t).Task.Status; got.State != state || got.Message != "by hand" {
				t.Errorf("reported %v, Control shows %v", state, got)
			}
		}
		// A task does not go back.
		if err := n.report(id, api.TaskStatePreparing); err != nil {
			t.Error(err)
		}
		if got := must(m.GetTask(m.ctx, &api.GetTaskRequest{TaskID: id}))(t).Task.Status.State; got != api.TaskStateRunning {
			t.Errorf("after a late report Control shows %v, want RUNNING", got)
		}
	}

	must(m.RemoveService(m.ctx, &api.RemoveServiceRequest{ServiceID: web.ID}))(t)
	n.takeUntil(t, assignments, func() bool {
		for _, task := range n.tasks {
			if task.DesiredState < api.TaskStateShutdown {
				return false
			}
		}
		return true
	})
	if len(n.tasks) != 2 || !n.secrets[secret.ID] || !n.configs[config.ID] {
		t.Errorf("while its tasks stop the node holds tasks %v, secrets %v, configs %v; want all of them", n.tasks, n.secrets, n.configs)
	}
	for id := range n.tasks {
		if err := n.report(id, api.TaskStateShutdown); err != nil {
			t.Error(err)
		}
	}
	n.takeUntil(t, assignments, func() bool { return len(n.tasks) == 0 && !n.secrets[secret.ID] && !n.configs[config.ID] })
}

// Stock nodes take messages of 4 MiB, as the client here does.
func TestAssignmentsThatAreTooLargeForAMessageComeInSeveral(t *testing.T) {
	t.Parallel()
	m := start(t)
	n := m.joined(t)
	spec := service("web", 1)
	container := spec.Task.GetContainer()
	for i := range 12 {
		secret := m.createSecret(t, fmt.Sprintf("large-%d", i), strings.Repeat("x", 500_000))
		container.Secrets = append(container.Secrets, &api.SecretReference{
			SecretID: secret.ID, SecretName: secret.Spec.Annotations.Name,
			Target: &api.SecretReference_File{File: &api.FileTarget{Name: secret.ID}},
		})
	}
	n.register(t, "")
	assignments := n.assigned(t)
	m.create(t, spec)
	n.takeUntil(t, assignments, func() bool { return len(n.tasks) == 1 })
	n.register(t, "") // and all at once
	assignments = n.assigned(t)
	n.takeUntil(t, assignments, func() bool { return len(n.tasks) == 1 && len(n.secrets) == 12 })
}

func TestANodeThatRegistersAgainGetsEverythingAgain(t *testing.T) {
	t.Parallel()
	m := start(t)
	n := m.joined(t)
	n.register(t, "")
	assignments := n.assigned(t)
	web := m.create(t, service("web", 1))
	n.takeUntil(t, assignments, func() bool { return len(n.tasks) == 1 })
	oldSession, oldStream := n.session, n.stream
	n.register(t, "")
	if _, err := recvAll(oldStream.Recv); err == nil {
		t.Error("the old session goes on beside the new one")
	}
	_, err := n.Heartbeat(m.ctx, &api.HeartbeatRequest{SessionID: oldSession})
	refused(t, err, codes.InvalidArgument, "session invalid")
	n.assigned(t)
	if len(n.tasks) != 1 {
		t.Errorf("after registering again the first assignments have tasks %v, want that of %s", n.tasks, web.ID)
	}
}

// recvAll receives until the stream ends.
func recvAll[T any](recv func() (T, error)) (last T, err error) {
	for {
		next, err := recv()
		if err != nil {
			return last, err
		}
		last = next
	}
}

func TestANodeSpeaksOnlyForItself(t *testing.T) {
	t.Parallel()
	m := start(t)
	one, two := m.joined(t), m.joined(t)
	_, err := one.Heartbeat(m.ctx, &api.HeartbeatRequest{SessionID: "x"})
	refused(t, err, codes.NotFound, one.id)
	one.register(t, "")
	assignments := one.assigned(t)
	m.create(t, service("web", 1))
	one.takeUntil(t, assignments, func() bool { return len(one.tasks) == 1 })
	two.register(t, "")

	_, err = two.Heartbeat(m.ctx, &api.HeartbeatRequest{SessionID: one.session})
	refused(t, err, codes.InvalidArgument, "session invalid")
	for id := range one.tasks {
		refused(t, two.report(id, api.TaskStateRunning), codes.PermissionDenied, id)
		if got := must(m.GetTask(m.ctx, &api.GetTaskRequest{TaskID: id}))(t).Task.Status.State; got != api.TaskStateAssigned {
			t.Errorf("a task of another node is %v by now", got)
		}
	}
	if err := two.report("unknown-task", api.TaskStateRunning); err != nil {
		t.Errorf("a report of a task that is gone: %v, want it passed over", err)
	}

	conn := m.dial(t, two.security.ClientTLSCreds)
	m.try(t, []refusal{
		{"control with a worker's certificate", codes.PermissionDenied, "", func(ctx context.Context) error {
			return errorOf(api.NewControlClient(conn).ListSecrets(ctx, &api.ListSecretsRequest{}))
		}},
		{"unlock key with a worker's certificate", codes.PermissionDenied, "", func(ctx context.Context) error {
			return errorOf(api.NewCAClient(conn).GetUnlockKey(ctx, &api.GetUnlockKeyRequest{}))
		}},
		{"watch with a worker's certificate", codes.PermissionDenied, "", func(ctx context.Context) error {
			stream, err := api.NewWatchClient(conn).Watch(ctx, &api.WatchRequest{})
			if err != nil {
				return err
			}
			return errorOf(stream.Recv())
		}},
		{"raft with a worker's certificate", codes.PermissionDenied, "", func(ctx context.Context) error {
			return errorOf(api.NewRaftMembershipClient(conn).Join(ctx, &api.JoinRequest{Addr: "127.0.0.1:1"}))
		}},
	})
}

func TestTheTasksOfASilentNodeRunElsewhere(t *testing.T) {
	t.Parallel()
	m := start(t)
	c := m.cluster(t)
	c.Spec.Dispatcher.HeartbeatPeriod = types.DurationProto(500 * time.Millisecond)
	must(m.UpdateCluster(m.ctx, &api.UpdateClusterRequest{ClusterID: c.ID, ClusterVersion: &c.Meta.Version, Spec: &c.Spec}))(t)
	n := m.joined(t)
	n.register(t, "")
	assignments := n.assigned(t)
	if beat := must(n.Heartbeat(m.ctx, &api.HeartbeatRequest{SessionID: n.session}))(t); beat.Period > time.Second {
		t.Errorf("next heartbeat in %v, want about 500ms", beat.Period)
	}
	web := m.create(t, service("web", 1))
	n.takeUntil(t, assignments, func() bool { return len(n.tasks) == 1 })
	for id := range n.tasks {
		if err := n.report(id, api.TaskStateRunning); err != nil {
			t.Fatal(err)
		}
	}
	w := m.worker(t, "worker")
	m.until(t, "the silent node is down", func() bool { return m.node(t, n.id).Status.State == api.NodeStatus_DOWN })
	m.until(t, "its task runs on the other", func() bool {
		tasks := m.running(t, web.ID)
		return len(tasks) == 1 && tasks[0].NodeID == w.id
	})
	w.undisturbed(t)

	// It comes back: what it ran there is to stop.
	n.register(t, n.session)
	assignments = n.assigned(t)
	n.takeUntil(t, assignments, func() bool {
		for _, task := range n.tasks {
			if task.DesiredState < api.TaskStateShutdown {
				return false
			}
		}
		return true
	})
	m.until(t, "it is ready again", func() bool { return m.node(t, n.id).Status.State == api.NodeStatus_READY })
}

func TestAWorkerFromBeforeAssignmentsGetsTheListOfItsTasks(t *testing.T) {
	t.Parallel()
	m := start(t)
	n := m.joined(t)
	n.register(t, "")
	list := must(n.DispatcherClient.Tasks(m.ctx, &api.TasksRequest{SessionID: n.session}))(t)
	web := m.create(t, service("web", 2))
	for {
		tasks := must(list.Recv())(t).Tasks
		if len(tasks) == 2 && tasks[0].ServiceID == web.ID && tasks[1].ServiceID == web.ID {
			return
		}
	}
}
