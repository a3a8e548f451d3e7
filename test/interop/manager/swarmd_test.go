package manager

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/moby/swarmkit/v2/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"skep/test/interop/built"
)

// limit is how long anything may take before a test gives up on it.
const limit = 60 * time.Second

// swarmd is a running manager of ours and the clients of its control socket.
type swarmd struct {
	api.ControlClient
	watch api.WatchClient
	conn  *grpc.ClientConn
	dir   string
	// ctx ends with the test, and with the process if that ends by itself.
	ctx    context.Context
	cancel context.CancelFunc
	// own is the manager's own node, and addr where other nodes reach it.
	own, addr string
	// kill ends the process as a crash does.
	kill func()
}

// start founds a swarm of one manager that runs no tasks.
func start(t *testing.T) *swarmd {
	t.Helper()
	m := &swarmd{dir: t.TempDir()}
	m.ctx, m.cancel = context.WithTimeout(context.Background(), limit)
	t.Cleanup(m.cancel)
	m.launch(t, "127.0.0.1:0")
	m.until(t, "the manager's own node is ready", func() bool {
		for _, n := range m.nodes(t) {
			if n.ManagerStatus != nil && n.Status.State == api.NodeStatus_READY {
				m.own, m.addr = n.ID, n.ManagerStatus.Addr
			}
		}
		return m.addr != ""
	})
	return m
}

// crash kills the process and starts it again on what it has on disk.
func (m *swarmd) crash(t *testing.T) {
	t.Helper()
	m.kill()
	m.launch(t, m.addr)
}

// launch starts the process and connects to it. The test ends it.
func (m *swarmd) launch(t *testing.T, listen string) {
	t.Helper()
	socket := filepath.Join(m.dir, "sock")
	log := keepLog(t, "swarmd")
	command := exec.Command(built.Command(t, "swarmd"),
		"--state-dir", filepath.Join(m.dir, "state"), "--listen-control-api", socket,
		"--listen-remote-api", listen, "--executor", "none", "--hostname", "manager")
	command.Stderr = log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := command.Wait()
		select {
		case <-asked:
		default:
			fmt.Fprintln(log, "swarmd ended by itself:", err)
			m.cancel()
		}
	}()
	end := sync.OnceFunc(func() {
		close(asked)
		select {
		case <-ended:
			t.Error("swarmd did not live as long as the test")
		default:
		}
	})
	m.kill = func() {
		end()
		_ = command.Process.Kill() // it fails if the process ended, which end reports
		<-ended
	}
	t.Cleanup(func() {
		end()
		_ = command.Process.Signal(os.Interrupt) // as above
		select {
		case <-ended:
		case <-time.After(limit):
			t.Error("swarmd does not stop; it is killed")
			_ = command.Process.Kill()
			<-ended
		}
	})
	m.conn = dialSocket(t, socket)
	m.ControlClient, m.watch = api.NewControlClient(m.conn), api.NewWatchClient(m.conn)
	must(m.health("ControlAPI", grpc.WaitForReady(true)))(t) // known from the start, also while it does not serve yet
}

// dialSocket connects as the reference's command line does: with TLS that
// verifies nothing and shows no certificate. What may call is up to the file.
func dialSocket(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+socket,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}),
		// The socket is there some time after the process.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond},
			MinConnectTimeout: limit,
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// health is how a part of the manager is.
func (m *swarmd) health(part string, options ...grpc.CallOption) (api.HealthCheckResponse_ServingStatus, error) {
	r, err := api.NewHealthClient(m.conn).Check(m.ctx, &api.HealthCheckRequest{Service: part}, options...)
	if err != nil {
		return api.HealthCheckResponse_UNKNOWN, err
	}
	return r.Status, nil
}

// everyAction is create, update and remove.
const everyAction = api.WatchActionKindCreate | api.WatchActionKindUpdate | api.WatchActionKindRemove

// until looks now, and again after every change of the swarm that the manager's
// Watch API tells of, until what holds.
func (m *swarmd) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	var entries []*api.WatchRequest_WatchEntry
	for _, kind := range []string{"node", "service", "task", "cluster"} {
		entries = append(entries, &api.WatchRequest_WatchEntry{Kind: kind, Action: everyAction})
	}
	changes := m.watching(t, &api.WatchRequest{Entries: entries})
	for !holds() {
		if _, err := changes.Recv(); err != nil {
			for _, task := range m.tasks(t, "") {
				t.Logf("task %s of %s on %s: %v, desired %v: %s %s", task.ID, task.ServiceID, task.NodeID,
					task.Status.State, task.DesiredState, task.Status.Message, task.Status.Err)
			}
			t.Fatalf("it is not so that %s: %v", what, err)
		}
	}
}

// watching opens a watch and returns it once it is live.
func (m *swarmd) watching(t *testing.T, r *api.WatchRequest) api.Watch_WatchClient {
	t.Helper()
	ctx, cancel := context.WithCancel(m.ctx)
	t.Cleanup(cancel)
	stream, err := m.watch.Watch(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Events) > 0 {
		t.Fatalf("the first message of a watch has %d events, want none: it only says that the watch is live", len(first.Events))
	}
	return stream
}

func (m *swarmd) nodes(t *testing.T) []*api.Node {
	t.Helper()
	return must(m.ListNodes(m.ctx, &api.ListNodesRequest{}))(t).Nodes
}

func (m *swarmd) node(t *testing.T, id string) *api.Node {
	t.Helper()
	return must(m.GetNode(m.ctx, &api.GetNodeRequest{NodeID: id}))(t).Node
}

// tasks are those of a service; of all services for "".
func (m *swarmd) tasks(t *testing.T, service string) []*api.Task {
	t.Helper()
	r := &api.ListTasksRequest{}
	if service != "" {
		r.Filters = &api.ListTasksRequest_Filters{ServiceIDs: []string{service}}
	}
	return must(m.ListTasks(m.ctx, r))(t).Tasks
}

// cluster is the one there is.
func (m *swarmd) cluster(t *testing.T) *api.Cluster {
	t.Helper()
	clusters := must(m.ListClusters(m.ctx, &api.ListClustersRequest{}))(t).Clusters
	if len(clusters) != 1 {
		t.Fatalf("got %d clusters, want 1", len(clusters))
	}
	return clusters[0]
}

// must returns what a call answered; the test ends if that is an error.
func must[T any](answer T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

// refused checks the code of an error and that its text says why.
func refused(t *testing.T, err error, want codes.Code, words string) {
	t.Helper()
	if status.Code(err) != want || !bytes.Contains([]byte(status.Convert(err).Message()), []byte(words)) {
		t.Errorf("got %v, want %v with %q", err, want, words)
	}
}

// keptLog is what somebody logged, for the report of a test that failed.
type keptLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func keepLog(t *testing.T, who string) *keptLog {
	l := &keptLog{}
	t.Cleanup(func() {
		if t.Failed() {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("%s logged:\n%s", who, l.text.Bytes())
		}
	})
	return l
}

func (l *keptLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}
