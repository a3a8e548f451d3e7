package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/agent"
	"skep/agent/exec"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/internal/inproc"
	"skep/model"
	"skep/rpc"
	"skep/rpc/dispatcher"
	"skep/store"
)

// cluster is one manager's dispatcher over a store, without a network.
type cluster struct {
	*testing.T
	store      *store.Store
	dispatcher *dispatcher.Dispatcher
	stop       func() // ends the term
	peers      []*api.WeightedPeer
	others     chan struct{}
	mu         sync.Mutex
	ids        int
}

// inBubble runs a test on a cluster that leads, with the nodes n1 and n2.
func inBubble(t *testing.T, test func(c *cluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.store.CheckFrozen()
		c.lead()
		defer func() { c.stop() }()
		test(c)
	})
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{
		T:      t,
		store:  store.NewLocal(store.Config{Freeze: true}),
		peers:  []*api.WeightedPeer{{Peer: &api.Peer{NodeId: "m", Addr: "10.0.0.1:2377"}, Weight: 10}},
		others: make(chan struct{}),
	}
	c.create(&api.Cluster{Id: "cluster", RootCa: &api.RootCA{CaCert: []byte("root")}, NetworkBootstrapKeys: []*api.EncryptionKey{{Subsystem: "networking:gossip", LamportTime: 1}}})
	for _, id := range []string{"n1", "n2"} {
		c.create(&api.Node{Id: id, Spec: &api.NodeSpec{}})
	}
	c.dispatcher = dispatcher.New(dispatcher.Config{
		Store: c.store, NodeID: "m",
		Peers: func() ([]*api.WeightedPeer, <-chan struct{}) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.peers, c.others
		},
		NewID: func() string {
			c.ids++
			return fmt.Sprint("session", c.ids)
		},
	})
	return c
}

// lead begins a term, which c.stop ends.
func (c *cluster) lead() {
	ctx, cancel := context.WithCancel(c.Context())
	done := make(chan error, 1)
	go func() { done <- c.dispatcher.Run(ctx) }()
	c.stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.Errorf("the dispatcher ended with %v", err)
		}
		done <- nil
	}
	synctest.Wait()
}

// conn connects as node.
func (c *cluster) conn(node string) *inproc.Conn { return c.connFrom(node, "192.0.2.7:4711") }

// connFrom connects as node from an address.
func (c *cluster) connFrom(node, addr string) *inproc.Conn {
	conn := &inproc.Conn{
		Admit: func(ctx context.Context) context.Context {
			return rpc.WithCaller(ctx, rpc.Identity{NodeID: node, Addr: addr})
		},
		Status: func(err error) error {
			var known *model.Error
			if !errors.As(err, &known) {
				return status.FromContextError(err).Err()
			}
			return status.Error(rpc.CodeOf(known.Kind), err.Error())
		},
	}
	api.RegisterDispatcherServer(conn, c.dispatcher)
	return conn
}

// machine is a node with its agent.
type machine struct {
	c        *cluster
	id       string
	executor *executor
	storage  *agent.Memory
	agent    *agent.Agent
	conn     *inproc.Conn
	// stop kills the agent: its tasks run on.
	stop func()
	mu   sync.Mutex
	// said is the last session message.
	said     *api.SessionMessage
	sessions map[string]bool
	cut      bool // nothing can be reached
}

// executor remembers what each task may see.
type executor struct {
	*fake.Executor
	mu   sync.Mutex
	deps map[string]exec.Dependencies
}

func (e *executor) Controller(task *api.Task, deps exec.Dependencies) (exec.Controller, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deps == nil {
		e.deps = map[string]exec.Dependencies{}
	}
	e.deps[task.GetId()] = deps
	return e.Executor.Controller(task, deps)
}

func (e *executor) dependencies(id string) exec.Dependencies {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.deps[id]
}

func (c *cluster) machine(id string, script func(*api.Task) fake.Script) *machine {
	m := &machine{c: c, id: id, executor: &executor{Executor: fake.New(fake.Config{Script: script})}, storage: &agent.Memory{}, sessions: map[string]bool{}}
	m.start()
	return m
}

func (m *machine) start() {
	m.c.Helper()
	a, err := agent.New(agent.Config{
		NodeID: m.id, Executor: m.executor, Storage: m.storage,
		Connect: func(context.Context) (grpc.ClientConnInterface, func(error), error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.cut {
				return nil, nil, status.Error(codes.Unavailable, "the cable is cut")
			}
			m.conn = m.c.conn(m.id)
			return m.conn, func(error) { m.conn.Close() }, nil
		},
		Notify: func(message *api.SessionMessage) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.said = message
			m.sessions[message.GetSessionId()] = true
		},
	})
	if err != nil {
		m.c.Fatal(err)
	}
	m.agent = a
	ctx, cancel := context.WithCancel(m.c.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.c.Errorf("agent %s ended with %v", m.id, err)
		}
	})
}

// sessionsSoFar returns how many sessions there were.
func (m *machine) sessionsSoFar() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sessions)
}

// message returns the last session message.
func (m *machine) message() *api.SessionMessage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said
}

// reach makes the network work, or not.
func (m *machine) reach(works bool) {
	m.mu.Lock()
	m.cut = !works
	conn := m.conn
	m.mu.Unlock()
	if !works && conn != nil {
		conn.Close()
	}
}

func (c *cluster) create(objects ...store.Object) {
	c.Helper()
	for _, o := range objects {
		if err := c.store.Update(c.Context(), func(tx *store.Tx) error { return tx.Create(o) }); err != nil {
			c.Fatal(err)
		}
	}
}

// task is assigned to node, and refers to secrets and to configs of the same IDs.
func task(id, node string, secrets ...string) *api.Task {
	container := &api.ContainerSpec{Image: "web"}
	for _, id := range secrets {
		container.Secrets = append(container.Secrets, &api.SecretReference{SecretId: id})
		container.Configs = append(container.Configs, &api.ConfigReference{ConfigId: id})
	}
	return &api.Task{
		Id: id, NodeId: node, ServiceId: "web", DesiredState: api.TaskState_RUNNING,
		Status: &api.TaskStatus{State: api.TaskState_ASSIGNED},
		Spec:   &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: container}},
	}
}

func (c *cluster) desire(id string, desired api.TaskState) {
	c.Helper()
	if _, err := store.Edit(c.Context(), c.store, id, nil, func(task *api.Task) error {
		task.DesiredState = desired
		return nil
	}); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) remove(kind store.Kind, id string) {
	c.Helper()
	if err := c.store.Update(c.Context(), func(tx *store.Tx) error { return tx.Remove(kind, id) }); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) task(id string) *api.Task {
	task, _ := c.store.Read().Tasks.Get(id)
	return task
}

func (c *cluster) node(id string) *api.Node {
	node, _ := c.store.Read().Nodes.Get(id)
	return node
}

// until waits, for a minute of the bubble's time, until what becomes so.
func (c *cluster) until(what string, so func() bool) {
	c.Helper()
	for end := time.Now().Add(time.Minute); ; pass(10 * time.Millisecond) {
		synctest.Wait()
		if so() {
			return
		}
		if time.Now().After(end) {
			c.Fatalf("it never came to be that %s", what)
		}
	}
}

func (c *cluster) untilState(id string, want api.TaskState) {
	c.Helper()
	c.until(fmt.Sprintf("task %s is %v; it is %v", id, want, c.task(id).GetStatus()), func() bool {
		return c.task(id).GetStatus().GetState() == want
	})
}

func (c *cluster) untilNode(id string, want api.NodeStatus_State) {
	c.Helper()
	c.until(fmt.Sprintf("node %s is %v", id, want), func() bool { return c.node(id).GetStatus().GetState() == want })
}

// pass lets time pass in the bubble.
func pass(d time.Duration) { <-time.After(d) }

func codeOf(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("got %v (%v), want %v", got, err, want)
	}
}
