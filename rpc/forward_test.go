package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/model"
	"skep/store"
)

// place is one manager's view of who leads, with connections to the others.
type place struct {
	term
	conns map[string]grpc.ClientConnInterface
	link  atomic.Pointer[net.Conn] // the latest connection to another manager
}

func (p *place) Connect(leader LeaderInfo) (grpc.ClientConnInterface, error) {
	return p.conns[leader.Addr], nil
}

// managers are three servers of one swarm; the first leads.
type managers struct {
	swarm
	addrs  [3]string
	places [3]*place
	ids    [3]*ca.Identity
	served [3]*answers
}

// answers are what a manager does with requests.
type answers struct {
	api.UnimplementedControlServer
	api.UnimplementedDispatcherServer
	api.UnimplementedLogBrokerServer
	api.UnimplementedNodeCAServer
	calls    atomic.Int32
	asked    atomic.Value // the session that was asked for last
	remove   func(context.Context) error
	sessions func(grpc.ServerStreamingServer[api.SessionMessage]) error
	publish  func(grpc.ClientStreamingServer[api.PublishLogsMessage, api.PublishLogsResponse]) error
	issue    func(context.Context)
}

func (a *answers) RemoveService(ctx context.Context, _ *api.RemoveServiceRequest) (*api.RemoveServiceResponse, error) {
	a.calls.Add(1)
	return &api.RemoveServiceResponse{}, a.remove(ctx)
}

func (a *answers) Session(r *api.SessionRequest, stream grpc.ServerStreamingServer[api.SessionMessage]) error {
	a.asked.Store(r.GetSessionId())
	return a.sessions(stream)
}

func (a *answers) PublishLogs(stream grpc.ClientStreamingServer[api.PublishLogsMessage, api.PublishLogsResponse]) error {
	return a.publish(stream)
}

func (a *answers) IssueNodeCertificate(ctx context.Context, _ *api.IssueNodeCertificateRequest) (*api.IssueNodeCertificateResponse, error) {
	a.issue(ctx)
	return &api.IssueNodeCertificateResponse{}, nil
}

func (a *answers) register(r grpc.ServiceRegistrar) {
	api.RegisterControlServer(r, a)
	api.RegisterDispatcherServer(r, a)
	api.RegisterLogBrokerServer(r, a)
	api.RegisterNodeCAServer(r, a)
}

func newManagers(t testing.TB) *managers {
	t.Helper()
	m := &managers{swarm: newSwarm(t)}
	m.node(t, "worker", api.NodeRole_WORKER)
	m.node(t, "demoted", api.NodeRole_WORKER)
	for i, name := range []string{"m1", "m2", "m3"} {
		m.node(t, name, api.NodeRole_MANAGER)
		m.ids[i] = m.identity(t, name, org, api.NodeRole_MANAGER)
		m.places[i] = &place{conns: map[string]grpc.ClientConnInterface{}}
		m.places[i].barrier = func(context.Context) error { return nil }
		m.served[i] = &answers{}
		l := loopback(t)
		m.addrs[i] = serve(t, l, Config{
			Credentials: m.ids[i].ServerCredentials(), Authorizer: NewMembers(m.store, org), Leadership: m.places[i], Addr: l.Addr().String(),
		}, m.served[i].register)
	}
	for i, p := range m.places {
		for _, addr := range m.addrs {
			conn, err := client.Dial(addr, m.ids[i].ClientCredentials(ca.ManagerOU), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
				p.link.Store(&conn)
				return conn, err
			}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			p.conns[addr] = conn
		}
	}
	m.lead(0)
	return m
}

// lead tells all who leads.
func (m *managers) lead(leader int) {
	for i, p := range m.places {
		p.elect(LeaderInfo{Self: i == leader, NodeID: m.ids[leader].NodeID(), Addr: m.addrs[leader]})
	}
}

func TestARequestIsForwardedWithItsCallerHeadersAndDeadline(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	var seen Identity
	var until time.Time
	m.served[0].remove = func(ctx context.Context) error {
		seen = Caller(ctx)
		until, _ = ctx.Deadline()
		return grpc.SetHeader(ctx, metadata.Pairs("said", "by the leader"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var header metadata.MD
	if _, err := dial(t, m.addrs[1], m.ids[2]).Control.RemoveService(ctx, &api.RemoveServiceRequest{}, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if seen.NodeID != "m3" || seen.Forwarder != "m2" || !seen.Is(ca.ManagerOU) || seen.Local {
		t.Errorf("the leader sees %+v", seen)
	}
	if until.IsZero() || first(header, "said") != "by the leader" {
		t.Errorf("deadline %v, headers %v", until, header)
	}
}

func TestErrorsOfTheLeaderPassWithTheirDetails(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[0].remove = func(context.Context) error { return model.Errorf(model.Unknown, "the disk broke") }
	_, err := dial(t, m.addrs[1], m.ids[2]).Control.RemoveService(t.Context(), &api.RemoveServiceRequest{})
	if !outcomeUnknown(err) || !strings.Contains(err.Error(), "the disk broke") || m.served[0].calls.Load() != 1 {
		t.Errorf("error %v after %d calls", err, m.served[0].calls.Load())
	}
}

func outcomeUnknown(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() == OutcomeUnknown {
			return status.Code(err) == codes.Unknown
		}
	}
	return false
}

func TestStreamsAreForwardedBothWays(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	var callers [2]string
	m.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
		callers[0] = Caller(s.Context()).NodeID
		for _, id := range []string{"a", "b"} {
			if err := s.Send(&api.SessionMessage{SessionId: id}); err != nil {
				return err
			}
		}
		return model.Errorf(model.NotFound, "no such session")
	}
	got := 0
	m.served[0].publish = func(s grpc.ClientStreamingServer[api.PublishLogsMessage, api.PublishLogsResponse]) error {
		callers[1] = Caller(s.Context()).NodeID
		for {
			if _, err := s.Recv(); errors.Is(err, io.EOF) {
				return s.SendAndClose(&api.PublishLogsResponse{})
			} else if err != nil {
				return err
			}
			got++
		}
	}
	c := dial(t, m.addrs[1], m.identity(t, "worker", org, api.NodeRole_WORKER))
	session, err := c.Dispatcher.Session(t.Context(), &api.SessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var ids string
	for {
		msg, err := session.Recv()
		if err != nil {
			if status.Code(err) != codes.NotFound {
				t.Errorf("the session ended with %v", err)
			}
			break
		}
		ids += msg.GetSessionId()
	}
	logs, err := c.LogBroker.PublishLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := logs.Send(&api.PublishLogsMessage{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := logs.CloseAndRecv(); err != nil {
		t.Errorf("logs: %v", err)
	}
	if ids != "ab" || got != 3 || callers != [2]string{"worker", "worker"} {
		t.Errorf("sessions %q, %d messages, callers %v", ids, got, callers)
	}
}

func TestACallerWithoutRightsIsRefusedThroughAFollowerToo(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[0].remove = func(context.Context) error { return nil }
	forged := metadata.AppendToOutgoingContext(t.Context(), metaForwarded, "true", metaNode, "m3", metaOrg, org, metaRole, ca.ManagerOU)
	redirected := metadata.AppendToOutgoingContext(forged, metaRedirect, "10.0.0.1:1")
	manager := api.NodeRole_MANAGER
	tests := []struct {
		name string
		id   *ca.Identity
	}{
		{"worker", m.identity(t, "worker", org, api.NodeRole_WORKER)},
		{"demoted", m.identity(t, "demoted", org, manager)},
		{"removed", m.identity(t, "removed", org, manager)},
	}
	for _, test := range tests {
		for place, addr := range map[string]string{"leader": m.addrs[0], "follower": m.addrs[1]} {
			c := dial(t, addr, test.id).Control
			for what, ctx := range map[string]context.Context{"plain": t.Context(), "forged": forged, "redirected": redirected} {
				_, err := c.RemoveService(ctx, &api.RemoveServiceRequest{})
				code := status.Code(err)
				// Who says that it passes a request on to a follower gets no further.
				if code != codes.PermissionDenied && (place == "leader" || what == "plain" || code != codes.ResourceExhausted) {
					t.Errorf("%s, %s, %s: %v", test.name, place, what, err)
				}
			}
		}
	}
	if n := m.served[0].calls.Load(); n != 0 {
		t.Errorf("%d requests were carried out", n)
	}
}

func TestTheSocketsCallerIsTheManagerItselfAtTheLeader(t *testing.T) {
	t.Parallel()
	md := func(id Identity) metadata.MD {
		out, _ := metadata.FromOutgoingContext((&server{cfg: Config{Addr: "m2:1"}}).outgoing(t.Context(), id))
		return out
	}
	direct := Identity{NodeID: "m2", Org: org, Roles: []string{ca.ManagerOU}}
	if got := forwarded(md(Identity{NodeID: "m2", Local: true}), direct); got.NodeID != "m2" || got.Forwarder != "" {
		t.Errorf("of the socket: %+v", got)
	}
	if got := forwarded(md(Identity{Addr: "10.0.0.9:1"}), direct); got.NodeID != "" || got.Org != "" || len(got.Roles) != 0 || got.Forwarder != "m2" {
		t.Errorf("without a certificate: %+v", got)
	}
}

func TestARequestGoesOnceAroundOnly(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[2].remove = func(context.Context) error { return nil }
	// The second believes in the first, which follows the third.
	m.places[0].elect(LeaderInfo{NodeID: "m3", Addr: m.addrs[2]})
	ctx := metadata.AppendToOutgoingContext(t.Context(), metaRedirect, "10.0.0.1:1")
	if _, err := dial(t, m.addrs[0], m.ids[1]).Control.RemoveService(ctx, &api.RemoveServiceRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("passed on twice: %v", err)
	}
	m.places[2].elect(LeaderInfo{Self: true})
	timer := time.AfterFunc(retryPause, func() { m.places[1].elect(LeaderInfo{NodeID: "m3", Addr: m.addrs[2]}) })
	defer timer.Stop()
	if _, err := dial(t, m.addrs[1], m.ids[1]).Control.RemoveService(t.Context(), &api.RemoveServiceRequest{}); err != nil {
		t.Errorf("after the follower heard of its leader: %v", err)
	}
	if n := m.served[2].calls.Load(); n != 1 {
		t.Errorf("carried out %d times, want once", n)
	}
}

func TestAWriteWhoseAnswerIsLostHasAnUnknownOutcomeAndIsNotRepeated(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[0].remove = func(ctx context.Context) error {
		_ = (*m.places[1].link.Load()).Close() // while the answer is due
		<-ctx.Done()
		return nil
	}
	_, err := dial(t, m.addrs[1], m.ids[2]).Control.RemoveService(t.Context(), &api.RemoveServiceRequest{})
	if !outcomeUnknown(err) || m.served[0].calls.Load() != 1 {
		t.Errorf("error %v after %d calls", err, m.served[0].calls.Load())
	}
}

func TestLocalMethodsAreNotPassedOn(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "m2", api.NodeRole_MANAGER)
	srv := &server{cfg: Config{Authorizer: NewMembers(s.store, org), Now: time.Now}}
	methods, err := methodsOf("docker.swarmkit.v1.Raft")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range methods {
		if _, err := srv.authorize(Identity{NodeID: "m2", Org: org, Roles: []string{ca.ManagerOU}, Forwarder: "m3"}, m); model.KindOf(err) != model.Denied {
			t.Errorf("%s for another manager: %v", m.full, err)
		}
	}
}

func TestAReadIsJudgedByTheStateThatItReads(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.places[1].barrier = func(ctx context.Context) error { // this manager learns of the removal only now
		return m.store.Update(ctx, func(tx *store.Tx) error { return tx.Remove(store.KindNode, "m3") })
	}
	if _, err := dial(t, m.addrs[1], m.ids[2]).Control.GetNode(t.Context(), &api.GetNodeRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("error %v", err)
	}
}

func TestWhoSaysForWhomItAsksAndIsNoManagerIsRefusedOrNobody(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[0].sessions = func(grpc.ServerStreamingServer[api.SessionMessage]) error { return nil }
	seen := make(chan Identity, 1)
	m.served[0].issue = func(ctx context.Context) { seen <- Caller(ctx) }
	claims := map[string][]string{
		"all":         {metaForwarded, "true", metaNode, "m3", metaOrg, org, metaRole, ca.ManagerOU},
		"passed on":   {metaForwarded, "true", metaRedirect, "10.0.0.1:1"},
		"only a name": {metaNode, "m3"},
	}
	for who, id := range map[string]*ca.Identity{
		"worker":  m.identity(t, "worker", org, api.NodeRole_WORKER),
		"demoted": m.identity(t, "demoted", org, api.NodeRole_MANAGER), // a moment ago it was a manager, and passed on what others ask
	} {
		for place, addr := range map[string]string{"leader": m.addrs[0], "follower": m.addrs[1]} {
			if who == "demoted" && place == "follower" {
				continue // refused as a loop, whoever it is
			}
			c := dial(t, addr, id)
			for what, said := range claims {
				ctx := metadata.AppendToOutgoingContext(t.Context(), said...)
				session, err := c.Dispatcher.Session(ctx, &api.SessionRequest{})
				if err == nil {
					_, err = session.Recv()
				}
				if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "only a manager of this swarm may") {
					t.Errorf("%s, %s, %s: a session ends with %v", who, place, what, err)
				}
				if _, err := c.NodeCA.IssueNodeCertificate(ctx, &api.IssueNodeCertificateRequest{}); err != nil {
					t.Errorf("%s, %s, %s: what is open to all: %v", who, place, what, err)
				} else if id := <-seen; id.NodeID != "" || id.Org != "" || len(id.Roles) != 0 {
					t.Errorf("%s, %s, %s: it is seen as %+v", who, place, what, id)
				}
			}
		}
	}
}

func TestWhoGivesUpAtAFollowerGivesUpAtTheLeader(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	began, ended := make(chan struct{}), make(chan error)
	wait := func(ctx context.Context) error {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	m.served[0].remove = wait
	m.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error { return wait(s.Context()) }
	c := dial(t, m.addrs[1], m.ids[2])
	for name, call := range map[string]func(context.Context) error{
		"unary": func(ctx context.Context) error {
			_, err := c.Control.RemoveService(ctx, &api.RemoveServiceRequest{})
			return err
		},
		"stream": func(ctx context.Context) error {
			s, err := c.Dispatcher.Session(ctx, &api.SessionRequest{})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- call(ctx) }()
		<-began
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: at the leader it ends with %v", name, err)
		}
		if err := <-result; status.Code(err) != codes.Canceled {
			t.Errorf("%s: the caller hears %v", name, err)
		}
	}
}

func TestHeadersAndTrailersOfTheLeaderComeBackOnStreamsToo(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
		s.SetTrailer(metadata.Pairs("last", "word"))
		return s.SendHeader(metadata.Pairs("first", "word"))
	}
	m.served[0].remove = func(ctx context.Context) error { return grpc.SetTrailer(ctx, metadata.Pairs("last", "word")) }
	c := dial(t, m.addrs[1], m.ids[2])
	session, err := c.Dispatcher.Session(t.Context(), &api.SessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	header, err := session.Header()
	if err != nil || first(header, "first") != "word" {
		t.Errorf("headers %v, error %v", header, err)
	}
	if _, err := session.Recv(); !errors.Is(err, io.EOF) || first(session.Trailer(), "last") != "word" {
		t.Errorf("trailers %v, error %v", session.Trailer(), err)
	}
	var trailer metadata.MD
	if _, err := c.Control.RemoveService(t.Context(), &api.RemoveServiceRequest{}, grpc.Trailer(&trailer)); err != nil || first(trailer, "last") != "word" {
		t.Errorf("of a unary call: trailers %v, error %v", trailer, err)
	}
}

func TestAStreamWhoseLeaderGoesAwayAdvisesAnotherTry(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
		if err := s.Send(&api.SessionMessage{}); err != nil {
			return err
		}
		<-s.Context().Done()
		return s.Context().Err()
	}
	m.served[2].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
		return s.Send(&api.SessionMessage{SessionId: "of the next leader"})
	}
	c := dial(t, m.addrs[1], m.identity(t, "worker", org, api.NodeRole_WORKER))
	session, err := c.Dispatcher.Session(t.Context(), &api.SessionRequest{})
	if err == nil {
		_, err = session.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	m.lead(2)
	_ = (*m.places[1].link.Load()).Close()
	if _, err := session.Recv(); !nothingDone(err) {
		t.Errorf("the stream ends with %v", err)
	}
	session, err = c.Dispatcher.Session(t.Context(), &api.SessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := session.Recv(); err != nil || msg.GetSessionId() != "of the next leader" {
		t.Errorf("the next stream says %v, %v", msg, err)
	}
}

func TestWhatIsPassedOnIsNotLookedInto(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	const unknown = "\xf2\xbb\x04\x03new" // field 9150 of a newer version
	m.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
		message := &api.SessionMessage{SessionId: m.served[0].asked.Load().(string)}
		message.ProtoReflect().SetUnknown([]byte(unknown))
		return s.Send(message)
	}
	conn, err := client.Dial(m.addrs[1], m.ids[2].ClientCredentials(ca.ManagerOU))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, test := range []struct {
		name, request, answer string
		code                  codes.Code
	}{
		{"what is known to none of them", "\x12\x01a" + unknown, "\x0a\x01a" + unknown, codes.OK},
		{"nothing", "", unknown, codes.OK},
		{"what is no message is for the leader to refuse", "\x12\x7f", "", codes.Internal},
	} {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, api.Dispatcher_Session_FullMethodName, grpc.ForceCodecV2(newFrames()))
		if err != nil {
			t.Fatal(err)
		}
		answer := &frame{}
		if err = send(stream, &frame{data: []byte(test.request)}); err == nil {
			err = stream.RecvMsg(answer)
		}
		if status.Code(err) != test.code || string(answer.data) != test.answer {
			t.Errorf("%s: %q, %v, want %q, %v", test.name, answer.data, err, test.answer, test.code)
		}
	}
	// Also by the one that comes to lead meanwhile.
	r := &replayed{codec: newFrames(), read: &frame{data: []byte("\x12\x7f")}}
	if err := r.RecvMsg(&api.SessionRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("read again, what is no message gives %v", err)
	}
}
