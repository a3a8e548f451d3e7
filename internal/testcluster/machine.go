package testcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"skep/agent"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/client"
	"skep/internal/memnet"
	"skep/node"
	"skep/vfs"
)

const (
	// StateDir is where each machine keeps its state.
	StateDir = "/var/lib/swarmd"

	socket = "/run/swarmd.sock"
	port   = "4242"
)

// Machine is a machine of the cluster and the swarmd on it.
type Machine struct {
	Name string
	c    *Cluster
	host *memnet.Host
	// Disk is the machine's disk. A crash replaces it.
	Disk *vfs.Mem
	// Tasks is where the machine's tasks run. They outlive swarmd, and end with the power.
	Tasks *fake.Executor
	// Stopping is how long tasks that start from now on take to stop.
	Stopping time.Duration
	// Config is what the next start of swarmd gets; Machine, Now and Log are set then.
	Config node.Config

	clock   atomic.Int64 // how far the wall clock is off
	storage *agent.Memory
	client  *grpc.ClientConn

	mu      sync.Mutex
	started map[string]int // how often each task was started
	run     *run           // nil while swarmd does not run
}

// run is one process of swarmd.
type run struct {
	process *memnet.Process
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error
	crashed atomic.Bool
}

func (c *Cluster) newMachine(name string) *Machine {
	c.t.Helper()
	if c.machines[name] != nil {
		c.t.Fatalf("there is a machine %s already", name)
	}
	m := &Machine{Name: name, c: c, Disk: vfs.NewMem(), storage: &agent.Memory{}, started: make(map[string]int)}
	m.host = c.Net.AddHost(name, fmt.Sprintf("10.0.0.%d", len(c.machines)+1))
	m.Tasks = m.newExecutor()
	m.Config = node.Config{
		StateDir: StateDir, Socket: socket, Listen: "0.0.0.0:" + port, Advertise: net.JoinHostPort(m.IP(), port),
		Hostname: name, Executor: "none", Version: "test",
	}
	conn, err := client.DialSocket(socket, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return m.host.DialContext(ctx, "unix", socket)
	}))
	if err != nil {
		c.t.Fatal(err)
	}
	m.client = conn
	c.machines[name] = m
	c.names = append(c.names, name)
	return m
}

func (m *Machine) newExecutor() *fake.Executor {
	return fake.New(fake.Config{
		Description: &api.NodeDescription{
			Hostname:  m.Name,
			Platform:  &api.Platform{Architecture: "x86_64", Os: "linux"},
			Resources: &api.Resources{NanoCpus: 64e9, MemoryBytes: 64 << 30},
			Engine:    &api.EngineDescription{Plugins: []*api.PluginDescription{{Type: "Runtime", Name: "process"}, {Type: "Runtime", Name: "container"}}},
		},
		Script: func(t *api.Task) fake.Script {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.started[t.GetId()]++
			return fake.Script{Stopping: m.Stopping}
		},
	})
}

// IP is the machine's address.
func (m *Machine) IP() string { return m.host.IP() }

// Addr is where others reach a manager on this machine.
func (m *Machine) Addr() string { return net.JoinHostPort(m.IP(), port) }

// Move gives the machine another address, which swarmd announces from its next start on.
func (m *Machine) Move(ip string) {
	m.c.Logf("%s moves to %s", m.Name, ip)
	m.host.SetIP(ip)
	m.Config.Advertise = m.Addr()
}

// SetClock sets the machine's wall clock off by d. Its timers are not touched.
func (m *Machine) SetClock(d time.Duration) {
	m.c.Logf("%s: the wall clock is off by %v", m.Name, d)
	m.clock.Store(int64(d))
}

// Client returns the services of the machine's socket.
func (m *Machine) Client() client.Clients { return client.New(m.client) }

// Socket is the connection to the machine's socket.
func (m *Machine) Socket() *grpc.ClientConn { return m.client }

// Running reports whether swarmd runs.
func (m *Machine) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run != nil
}

// Started returns how often each task of the machine was started, and so what the
// executor of a machine that lost its power has forgotten too.
func (m *Machine) Started() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.started)
}

// start starts swarmd.
func (m *Machine) start() {
	m.c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{process: m.host.Start(), cancel: cancel, ended: make(chan struct{})}
	cfg := m.Config
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(m.clock.Load())) }
	cfg.Log = slog.New(m.c.story.handler(m.Name))
	lock := &lock{}
	cfg.Machine = node.Machine{
		FS:           m.Disk,
		Lock:         lock.take,
		ListenLocal:  func(path string) (net.Listener, error) { return r.process.Listen("unix", path) },
		ListenRemote: func(addr string) (net.Listener, error) { return r.process.Listen("tcp", addr) },
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return r.process.DialContext(ctx, network, addr)
		},
		Executor: m.Tasks,
		Storage:  m.storage,
	}
	m.mu.Lock()
	m.run = r
	m.mu.Unlock()
	m.c.processes.Go(func() {
		defer close(r.ended)
		err := node.Run(ctx, cfg)
		r.process.Kill()
		m.mu.Lock()
		defer m.mu.Unlock()
		r.err = err
		if m.run == r {
			m.run = nil
		}
		if !r.crashed.Load() {
			m.c.Logf("%s: swarmd ends: %v", m.Name, err)
		}
	})
	m.client.ResetConnectBackoff()
}

// dialTimeout is how long a machine may take to accept a connection, as node's own.
const dialTimeout = 5 * time.Second

// Restart starts swarmd again with what the disk holds.
func (m *Machine) Restart() {
	m.c.t.Helper()
	if m.Running() {
		m.c.t.Fatalf("%s runs already", m.Name)
	}
	m.c.Logf("%s starts", m.Name)
	m.host.PowerOn()
	m.start()
}

// Stop stops swarmd as SIGTERM does, waits for its end and returns what it ends with.
func (m *Machine) Stop() error {
	m.mu.Lock()
	r := m.run
	m.mu.Unlock()
	if r == nil {
		return nil
	}
	m.c.Logf("%s stops", m.Name)
	r.cancel()
	<-r.ended
	return r.err
}

// Ended waits until swarmd has ended by itself, up to limit, and returns why.
func (m *Machine) Ended(limit time.Duration) error {
	m.c.t.Helper()
	m.mu.Lock()
	r := m.run
	m.mu.Unlock()
	if r == nil {
		m.c.t.Fatalf("%s does not run", m.Name)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.ended:
		return r.err
	case <-timer.C:
		m.c.t.Fatalf("swarmd on %s still runs after %v", m.Name, limit)
		return nil
	}
}

// Kill ends swarmd as kill -9 does: what it wrote stays, its connections are reset, and
// the tasks run on.
func (m *Machine) Kill() {
	m.c.Logf("%s: kill -9", m.Name)
	m.crash(func(r *run) {
		r.process.Kill()
		m.Disk = m.Disk.Copy()
	})
}

// CutPower ends the machine: of what was not synced any part may be left, the tasks are
// gone, and its peers hear nothing.
func (m *Machine) CutPower() {
	m.c.Logf("%s: no power", m.Name)
	m.crash(func(*run) {
		m.host.PowerOff()
		m.Disk = m.Disk.Crash(m.c.Rand)
		m.Tasks = m.newExecutor()
	})
}

func (m *Machine) crash(f func(*run)) {
	m.mu.Lock()
	r := m.run
	m.run = nil
	m.mu.Unlock()
	if r == nil {
		m.c.t.Fatalf("%s does not run", m.Name)
	}
	r.crashed.Store(true)
	f(r)
	// The process is gone; its goroutines end beside a network and a disk of their own.
	records, err := m.storage.Load()
	if err == nil {
		m.storage = &agent.Memory{}
		err = m.storage.Write(records, nil)
	}
	if err != nil {
		m.c.t.Fatal(err)
	}
	r.cancel()
}

// Image is all that a machine keeps on its disk at one moment.
type Image struct {
	disk    *vfs.Mem
	records []agent.Record
}

// Image copies what the machine keeps, as a backup that is taken while swarmd runs.
func (m *Machine) Image() Image {
	m.c.t.Helper()
	records, err := m.storage.Load()
	if err != nil {
		m.c.t.Fatal(err)
	}
	return Image{m.Disk.Copy(), records}
}

// Restore gives a machine on which swarmd does not run a disk as the image has it: an old
// one of its own, or a copy of another machine's.
func (m *Machine) Restore(image Image) {
	m.c.t.Helper()
	if m.Running() {
		m.c.t.Fatalf("%s runs", m.Name)
	}
	m.Disk, m.storage = image.disk.Copy(), &agent.Memory{}
	if err := m.storage.Write(image.records, nil); err != nil {
		m.c.t.Fatal(err)
	}
}

// Pause stops the machine for a while, as far as others can tell: nothing leaves it or
// reaches it, and what it writes to its disk waits, until resume. The goroutines of a
// process in a bubble cannot be stopped; its clients on the machine itself go on asking.
func (m *Machine) Pause(d time.Duration) (resume func()) {
	m.c.Logf("%s is paused for %v", m.Name, d)
	m.c.Net.Isolate(m.Name)
	fault := m.Disk.Inject(vfs.Rule{Op: vfs.OpWrite | vfs.OpSync, Delay: d})
	return func() {
		m.c.Logf("%s goes on", m.Name)
		fault.Remove()
		for _, other := range m.c.Others(m.Name) {
			m.c.Net.Mend(m.Name, other)
			m.c.Net.Mend(other, m.Name)
		}
	}
}

// RunningTasks returns the IDs of the tasks that run on the machine, sorted.
func (m *Machine) RunningTasks() []string { return m.Tasks.Running() }

// lock is the lock of a state directory: a disk in memory has one process at a time.
type lock struct{ taken atomic.Bool }

func (l *lock) take(string) (io.Closer, error) {
	if l.taken.Swap(true) {
		return nil, errors.New("the state directory is in use")
	}
	return l, nil
}

func (l *lock) Close() error {
	l.taken.Store(false)
	return nil
}

// Files returns the names in a directory of the state directory, sorted.
func (m *Machine) Files(dir string) []string {
	names, err := m.Disk.List(StateDir + "/" + dir)
	if err != nil {
		return nil
	}
	return slices.Sorted(slices.Values(names))
}
