package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/model"
	"skep/rpc"
	"skep/rpc/caserver"
	"skep/rpc/dispatcher"
	"skep/store"
)

// office are two managers with what they serve to nodes: m1 leads, m2 passes on. Both look
// at one store.
type office struct {
	t      *testing.T
	store  *store.Store
	root   *ca.Root
	signer *ca.Signer
	tokens *api.JoinTokens
	remote [2]string
	socket [2]string
	known  map[string]bool // the nodes of the store at the beginning
}

const swarmID = "thecluster"

// leads is what a manager of an office knows of raft.
type leads struct {
	leader rpc.LeaderInfo
	conn   grpc.ClientConnInterface
}

func (l *leads) Leader() (rpc.LeaderInfo, <-chan struct{})                { return l.leader, nil }
func (l *leads) ReadBarrier(context.Context) error                        { return nil }
func (l *leads) Connect(rpc.LeaderInfo) (grpc.ClientConnInterface, error) { return l.conn, nil }
func (l *leads) Absence() string                                          { return "" }

// newOffice returns one with so many managers, and their sockets if need be.
func newOffice(t *testing.T, managers int, sockets bool) *office {
	t.Helper()
	root, key, _, err := ca.Bootstrap(swarmID, "m1", time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	rootCA, err := ca.NewRootCA(root, key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(root, key)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, store: store.NewLocal(store.Config{}), root: root, signer: signer, tokens: rootCA.GetJoinTokens(), known: map[string]bool{}}
	o.fill(rootCA)
	var leader *grpc.ClientConn
	for i, name := range []string{"m1", "m2"}[:managers] {
		id := o.identity(name, swarmID, api.NodeRole_MANAGER)
		d := dispatcher.New(dispatcher.Config{
			Store: o.store, NodeID: name, NewID: func() string { return model.NewID(rand.Reader) },
			Peers: func() ([]*api.WeightedPeer, <-chan struct{}) { return nil, nil },
		})
		register := []func(grpc.ServiceRegistrar){
			caserver.New(caserver.Config{Store: o.store, ClusterID: swarmID}).Register,
			func(r grpc.ServiceRegistrar) { api.RegisterDispatcherServer(r, d) },
		}
		l, err := rpc.ListenRemote("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.remote[i] = l.Addr().String()
		p := &leads{leader: rpc.LeaderInfo{Self: i == 0, NodeID: "m1", Addr: o.remote[0]}}
		if i == 0 {
			o.run(d)
			if leader, err = client.Dial(o.remote[0], o.identity("m2", swarmID, api.NodeRole_MANAGER).ClientCredentials(ca.ManagerOU)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = leader.Close() })
		} else {
			p.conn = leader
		}
		cfg := rpc.Config{Credentials: id.ServerCredentials(), Authorizer: rpc.NewMembers(o.store, swarmID), Leadership: p, Addr: o.remote[i]}
		o.serve(l, cfg, register...)
		if !sockets {
			continue
		}
		o.socket[i] = filepath.Join(t.TempDir(), "s")
		local, err := rpc.ListenLocal(o.socket[i])
		if err != nil {
			t.Fatal(err)
		}
		cfg.Credentials, cfg.Local = rpc.LocalCredentials(nil), rpc.Self(id, o.remote[i])
		o.serve(local, cfg, register...)
	}
	return o
}

// fill makes nodes, and a task and a volume for each.
func (o *office) fill(rootCA *api.RootCA) {
	o.t.Helper()
	objects := []store.Object{&api.Cluster{
		Id: swarmID, RootCa: rootCA, Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}},
		BlacklistedCertificates: map[string]*api.BlacklistedCertificate{"removed": {}},
	}}
	for _, id := range []string{"m1", "m2", "m3", "worker", "other", "demoted"} {
		o.known[id] = true
		role := api.NodeRole_WORKER
		if strings.HasPrefix(id, "m") {
			role = api.NodeRole_MANAGER
		}
		objects = append(objects, &api.Node{
			Id: id, Role: role, Spec: &api.NodeSpec{DesiredRole: role, Membership: api.NodeSpec_ACCEPTED},
			Certificate: &api.Certificate{Cn: id, Role: role, Certificate: []byte("certificate of " + id), Status: &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED}},
		}, &api.Task{
			Id: "task of " + id, NodeId: id, Spec: &api.TaskSpec{}, DesiredState: api.TaskState_RUNNING, Status: &api.TaskStatus{State: api.TaskState_ASSIGNED},
		}, &api.Volume{
			Id: "volume of " + id, Spec: &api.VolumeSpec{Annotations: &api.Annotations{Name: id}},
			PublishStatus: []*api.VolumePublishStatus{{NodeId: id, State: api.VolumePublishStatus_PENDING_NODE_UNPUBLISH}},
		})
	}
	if err := o.store.Update(o.t.Context(), func(tx *store.Tx) error {
		for _, object := range objects {
			if err := tx.Create(object); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		o.t.Fatal(err)
	}
}

// run has a dispatcher serve nodes until the test ends.
func (o *office) run(d *dispatcher.Dispatcher) {
	o.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	o.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			o.t.Error(err)
		}
	})
	if err := d.AwaitOpen(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) serve(l net.Listener, cfg rpc.Config, register ...func(grpc.ServiceRegistrar)) {
	o.t.Helper()
	g, err := rpc.NewServer(cfg, register...)
	if err != nil {
		o.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	o.t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			o.t.Error(err)
		}
	})
}

func (o *office) identity(id, org string, role api.NodeRole) *ca.Identity {
	o.t.Helper()
	key, err := ca.NewKey()
	if err != nil {
		o.t.Fatal(err)
	}
	request, err := key.Request()
	if err != nil {
		o.t.Fatal(err)
	}
	chain, err := o.signer.Sign(request, ca.Subject{NodeID: id, Org: org, Role: role}, time.Now(), 0)
	if err != nil {
		o.t.Fatal(err)
	}
	cert, err := ca.NewCertificate(o.root, chain, key)
	if err != nil {
		o.t.Fatal(err)
	}
	return ca.NewIdentity(o.root, cert, nil)
}

// certificate is what an asker shows.
func (o *office) certificate(a asker) []tls.Certificate {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		o.t.Fatal(err)
	}
	chain, err := o.signer.Sign(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), ca.Subject{NodeID: a.id, Org: a.org, Role: a.role}, time.Now(), 0)
	if err != nil {
		o.t.Fatal(err)
	}
	block, _ := pem.Decode(chain)
	return []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}
}

// asker is a column of the table: who asks, and what it says of itself.
type asker struct {
	name, id, org string
	role          api.NodeRole
	forges        bool
}

func askers() []asker {
	const worker, manager = api.NodeRole_WORKER, api.NodeRole_MANAGER
	return []asker{
		{name: "no cert"},
		{name: "wrong org", id: "m3", org: "other", role: manager},
		{name: "worker", id: "worker", org: swarmID, role: worker},
		{name: "removed worker", id: "removed", org: swarmID, role: worker},
		{name: "removed manager", id: "removed", org: swarmID, role: manager},
		{name: "demoted manager", id: "demoted", org: swarmID, role: manager},
		{name: "worker that forges", id: "worker", org: swarmID, role: worker, forges: true},
		{name: "manager", id: "m3", org: swarmID, role: manager},
		{name: "unix socket"},
	}
}

// visit is one of them at a manager of an office.
type visit struct {
	*office
	client.Clients
	ctx context.Context
	// node is who it is by its certificate; of who has none, the worker.
	node string
}

func (o *office) visit(a asker, place int) *visit {
	o.t.Helper()
	var conn *grpc.ClientConn
	var err error
	v := &visit{office: o, ctx: o.t.Context(), node: "worker"}
	if a.name == "unix socket" {
		v.node = []string{"m1", "m2"}[place]
		conn, err = client.DialSocket(o.socket[place])
	} else {
		cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // the servers are on trial, not the client
		if a.id != "" {
			v.node = a.id
			cfg.Certificates = o.certificate(a)
		}
		conn, err = client.Dial(o.remote[place], credentials.NewTLS(cfg))
	}
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = conn.Close() })
	v.Clients = client.New(conn)
	if a.forges {
		v.ctx = metadata.AppendToOutgoingContext(v.ctx, "forwarded_cert", "true", "forwarded_cert_cn", "other", "forwarded_cert_org", swarmID, "forwarded_cert_ou", ca.WorkerOU)
	}
	return v
}

// register opens a session and returns its first message.
func (v *visit) register() (*api.SessionMessage, error) {
	stream, err := v.Dispatcher.Session(v.ctx, &api.SessionRequest{})
	if err != nil {
		return nil, err
	}
	return stream.Recv()
}

// foreign is a session of another node, which has registered at the leader.
func (v *visit) foreign() string {
	v.t.Helper()
	other := v.visit(asker{id: "other", org: swarmID, role: api.NodeRole_WORKER}, 0)
	message, err := other.register()
	if err != nil {
		v.t.Fatal(err)
	}
	return message.GetSessionId()
}

// words are what became of a request.
func words(said string, err error) string {
	if err == nil {
		return said
	}
	if code := status.Code(err); code != codes.PermissionDenied {
		return fmt.Sprintf("%v: %s", code, status.Convert(err).Message())
	}
	return "denied"
}

func (v *visit) issue(token string) (string, error) {
	key, err := ca.NewKey()
	if err != nil {
		return "", err
	}
	csr, err := key.Request()
	if err != nil {
		return "", err
	}
	r, err := v.NodeCA.IssueNodeCertificate(v.ctx, &api.IssueNodeCertificateRequest{Csr: csr, Token: token})
	if err != nil {
		return "", err
	}
	node, _ := v.store.Read().Nodes.Get(r.GetNodeId())
	as := strings.ToLower(node.GetCertificate().GetRole().String())
	if !v.known[r.GetNodeId()] {
		return "a new node, as " + as, nil
	}
	return "that of " + r.GetNodeId() + ", as " + as, nil
}

func (v *visit) certificateOf(node string) (string, error) {
	r, err := v.NodeCA.NodeCertificateStatus(v.ctx, &api.NodeCertificateStatusRequest{NodeId: node})
	return string(r.GetCertificate().GetCertificate()), err
}

// assigned names the tasks that a session is told of.
func (v *visit) assigned(session string) (string, error) {
	stream, err := v.Dispatcher.Assignments(v.ctx, &api.AssignmentsRequest{SessionId: session})
	if err != nil {
		return "", err
	}
	message, err := stream.Recv()
	var tasks []string
	for _, change := range message.GetChanges() {
		tasks = append(tasks, change.GetAssignment().GetTask().GetId())
	}
	return strings.Join(tasks, ", "), err
}

// listed is assigned for nodes that do not know assignments.
func (v *visit) listed(session string) (string, error) {
	stream, err := v.Dispatcher.Tasks(v.ctx, &api.TasksRequest{SessionId: session})
	if err != nil {
		return "", err
	}
	message, err := stream.Recv()
	var tasks []string
	for _, task := range message.GetTasks() {
		tasks = append(tasks, task.GetId())
	}
	return strings.Join(tasks, ", "), err
}

// reportTasks says that its own task runs, among items that it may not say.
func (v *visit) reportTasks(session string) (string, error) {
	var updates []*api.UpdateTaskStatusRequest_TaskStatusUpdate
	for _, id := range []string{"task of other", "task of nobody", "task of " + v.node} {
		updates = append(updates, &api.UpdateTaskStatusRequest_TaskStatusUpdate{TaskId: id, Status: &api.TaskStatus{State: api.TaskState_RUNNING}})
	}
	_, err := v.Dispatcher.UpdateTaskStatus(v.ctx, &api.UpdateTaskStatusRequest{SessionId: session, Updates: updates})
	var run []string
	for task := range v.store.Read().Tasks.All() {
		if task.GetStatus().GetState() == api.TaskState_RUNNING {
			run = append(run, task.GetId())
		}
	}
	return written(run, err)
}

// reportVolumes says that its own volume is let go, among items that it may not say.
func (v *visit) reportVolumes(session string) (string, error) {
	var updates []*api.UpdateVolumeStatusRequest_VolumeStatusUpdate
	for _, id := range []string{"volume of other", "volume of nobody", "volume of " + v.node} {
		updates = append(updates, &api.UpdateVolumeStatusRequest_VolumeStatusUpdate{Id: id, Unpublished: true})
	}
	_, err := v.Dispatcher.UpdateVolumeStatus(v.ctx, &api.UpdateVolumeStatusRequest{SessionId: session, Updates: updates})
	var free []string
	for volume := range v.store.Read().Volumes.All() {
		if volume.GetPublishStatus()[0].GetState() == api.VolumePublishStatus_PENDING_UNPUBLISH {
			free = append(free, volume.GetId())
		}
	}
	return written(free, err)
}

// written says what was written, also beside an error.
func written(ids []string, err error) (string, error) {
	slices.Sort(ids)
	if len(ids) == 0 {
		return "nothing is written", err
	}
	said := "written: " + strings.Join(ids, ", ")
	if err != nil {
		return words("", err) + " of one item; " + said, nil
	}
	return said, nil
}

// acts are the rows: what is done to whose object.
func acts() map[string]func(*visit) (string, error) {
	own := func(f func(*visit, string) (string, error)) func(*visit) (string, error) {
		return func(v *visit) (string, error) {
			message, err := v.register()
			if err != nil {
				return "", err
			}
			return f(v, message.GetSessionId())
		}
	}
	others := func(f func(*visit, string) (string, error)) func(*visit) (string, error) {
		return func(v *visit) (string, error) {
			id := v.foreign()
			if _, err := v.register(); err != nil {
				return "", err
			}
			return f(v, id)
		}
	}
	beat := func(v *visit, session string) (string, error) {
		r, err := v.Dispatcher.Heartbeat(v.ctx, &api.HeartbeatRequest{SessionId: session})
		if err == nil && r.GetPeriod().AsDuration() <= 0 {
			err = errors.New("no period")
		}
		return "OK", err
	}
	return map[string]func(*visit) (string, error){
		"certificate without a token":   func(v *visit) (string, error) { return v.issue("") },
		"certificate with the token":    func(v *visit) (string, error) { return v.issue(v.tokens.GetWorker()) },
		"status of its own certificate": func(v *visit) (string, error) { return v.certificateOf(v.node) },
		"status of another's":           func(v *visit) (string, error) { return v.certificateOf("other") },
		"session": func(v *visit) (string, error) {
			message, err := v.register()
			return "that of " + message.GetNode().GetId(), err
		},
		"heartbeat in its session":     own(beat),
		"heartbeat in another's":       others(beat),
		"assignments in its session":   own((*visit).assigned),
		"assignments in another's":     others((*visit).assigned),
		"list of tasks in its session": own((*visit).listed),
		"list of tasks in another's":   others((*visit).listed),
		"task statuses in its session": own((*visit).reportTasks),
		"task statuses in another's":   others((*visit).reportTasks),
		"volume status in its session": own((*visit).reportVolumes),
		"volume status in another's":   others((*visit).reportVolumes),
	}
}

// TestTheTableOfWhoMayCallWhatOwnAndOthersObjects runs the cells of the table that depend on
// whose object it is with the real servers, at the leader and through a follower. The door's
// cells are TestTheTableOfWhoMayCallWhat.
func TestTheTableOfWhoMayCallWhatOwnAndOthersObjects(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	datadriven.RunTest(t, filepath.Join("testdata", "whose_object"), func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		name := strings.TrimSpace(d.Input)
		act := acts()[name]
		if act == nil {
			t.Fatalf("no such row: %q", name)
		}
		tried[name] = true
		cells := make([][2]string, len(askers()))
		t.Run(name, func(t *testing.T) { // returns when all cells are there
			for i, a := range askers() {
				for place, at := range []string{"leader", "follower"} {
					t.Run(a.name+", "+at, func(t *testing.T) {
						t.Parallel()
						cells[i][place] = words(act(newOffice(t, place+1, a.name == "unix socket").visit(a, place)))
					})
				}
			}
		})
		var out strings.Builder
		for i, a := range askers() {
			cells := cells[i]
			fmt.Fprintf(&out, "%s: %s", a.name, cells[0])
			if cells[1] != cells[0] {
				fmt.Fprintf(&out, "; at a follower: %s", cells[1])
			}
			out.WriteByte('\n')
		}
		return out.String()
	})
	for name := range acts() {
		if !tried[name] {
			t.Errorf("row %q is not in the table", name)
		}
	}
}
