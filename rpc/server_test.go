package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/client"
	"skep/internal/logtest"
	"skep/model"
)

// member is a manager's connection to a server of one Health and one Watch.
func member(t *testing.T, cfg Config, check func(context.Context) error, stream func(grpc.ServerStreamingServer[api.WatchMessage]) error) client.Clients {
	t.Helper()
	s := newSwarm(t)
	s.node(t, "m2", api.NodeRole_MANAGER)
	addr := s.remote(t, cfg, health{check: check}.register, watch{watch: stream}.register)
	return dial(t, addr, s.identity(t, "m2", org, api.NodeRole_MANAGER))
}

func TestAPanicFailsItsOwnRequestOnly(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	var log logtest.Buffer
	fine := false
	c := member(t, Config{Metrics: NewMetrics(registry), Log: slog.New(slog.NewTextHandler(&log, nil))},
		func(context.Context) error {
			if !fine {
				panic("secret detail")
			}
			return nil
		},
		func(grpc.ServerStreamingServer[api.WatchMessage]) error { panic("in a stream") })
	_, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{})
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret detail") {
		t.Errorf("unary: %v", err)
	}
	stream, err := c.Watch.Watch(t.Context(), &api.WatchRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Internal {
		t.Errorf("stream: %v", err)
	}
	if text := log.String(); !strings.Contains(text, "secret detail") || !strings.Contains(text, "server_test.go") {
		t.Errorf("the log does not say what happened: %s", text)
	}
	if n := testutil.CollectAndCount(registry, "skep_rpc_panics_total"); n != 2 {
		t.Errorf("%d series of panics, want 2", n)
	}
	fine = true
	if _, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
		t.Errorf("the server did not survive: %v", err)
	}
}

func TestErrorsBecomeCodesAndSayWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		code codes.Code
	}{
		{model.Errorf(model.Invalid, "x"), codes.InvalidArgument},
		{model.Errorf(model.NotFound, "x"), codes.NotFound},
		{model.Errorf(model.Exists, "x"), codes.AlreadyExists},
		{model.Errorf(model.Conflict, "update out of sequence"), codes.Aborted},
		{model.Errorf(model.Precondition, "x"), codes.FailedPrecondition},
		{model.Errorf(model.Denied, "x"), codes.PermissionDenied},
		{model.Errorf(model.Unavailable, "x"), codes.Unavailable},
		{model.Errorf(model.Unknown, "x"), codes.Unknown},
		{model.Errorf(model.Unimplemented, "x"), codes.Unimplemented},
		{model.Errorf(model.Exhausted, "x"), codes.ResourceExhausted},
		{model.Errorf(model.Internal, "x"), codes.Internal},
		{errors.New("x"), codes.Internal},
		{fmt.Errorf("deep: %w", model.Errorf(model.NotFound, "x")), codes.NotFound},
		{fmt.Errorf("deep: %w", context.Canceled), codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{status.Error(codes.OutOfRange, "x"), codes.OutOfRange},
	}
	for _, test := range tests {
		got := status.Convert(statusOf(test.err))
		if got.Code() != test.code || !strings.Contains(got.Message(), "x") && got.Message() == "" {
			t.Errorf("%v gives %s %q, want %s", test.err, got.Code(), got.Message(), test.code)
		}
		var retry, unknown bool
		for _, detail := range got.Details() {
			switch d := detail.(type) {
			case *errdetails.RetryInfo:
				retry = d.GetRetryDelay().AsDuration() > 0
			case *errdetails.ErrorInfo:
				unknown = d.GetReason() == OutcomeUnknown && d.GetDomain() == ErrorDomain
			}
		}
		if retry != (test.code == codes.Unavailable) || unknown != (test.code == codes.Unknown) {
			t.Errorf("%v: retry %v, outcome unknown %v", test.err, retry, unknown)
		}
	}
	if statusOf(nil) != nil {
		t.Error("nil is an error")
	}
}

func TestAnErrorThatQuotesGarbageStillArrives(t *testing.T) {
	t.Parallel()
	garbage := strings.Repeat("\xff\x00ä", 100_000)
	c := member(t, Config{}, func(context.Context) error { return model.Errorf(model.Unavailable, "no %s", garbage) }, nil)
	_, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{})
	if st := status.Convert(err); st.Code() != codes.Unavailable || !strings.HasPrefix(st.Message(), "no ") || len(st.Details()) != 1 {
		t.Errorf("code %s, %d bytes, details %v", st.Code(), len(st.Message()), st.Details())
	}
}

func TestAMessageThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	c := member(t, Config{}, func(context.Context) error { return nil }, nil)
	_, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{Service: strings.Repeat("x", MaxReceive)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("error %v", err)
	}
}

func TestAMethodThatIsNotServedSaysSo(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "m2", api.NodeRole_MANAGER)
	for name, test := range map[string]struct {
		unknown func(string) error
		code    codes.Code
		want    string
	}{
		"by default":  {nil, codes.Unimplemented, "/docker.swarmkit.v1.Control/GetNode is not served here"},
		"on a worker": {func(string) error { return model.Errorf(model.Precondition, "this node is a worker") }, codes.FailedPrecondition, "this node is a worker"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := s.remote(t, Config{Unknown: test.unknown}, health{}.register)
			_, err := dial(t, addr, s.identity(t, "m2", org, api.NodeRole_MANAGER)).Control.GetNode(t.Context(), &api.GetNodeRequest{})
			if status.Code(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s %q", err, test.code, test.want)
			}
		})
	}
}

func TestRequestsAreCounted(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	c := member(t, Config{Metrics: NewMetrics(registry)}, func(context.Context) error { return nil },
		func(s grpc.ServerStreamingServer[api.WatchMessage]) error {
			return errors.Join(s.Send(&api.WatchMessage{}), s.Send(&api.WatchMessage{}))
		})
	if _, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	stream, err := c.Watch.Watch(t.Context(), &api.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	want := `
# HELP grpc_server_handled_total RPCs that ended, by code.
# TYPE grpc_server_handled_total counter
grpc_server_handled_total{grpc_code="OK",grpc_method="Check",grpc_service="docker.swarmkit.v1.Health",grpc_type="unary"} 1
grpc_server_handled_total{grpc_code="OK",grpc_method="Watch",grpc_service="docker.swarmkit.v1.Watch",grpc_type="server_stream"} 1
# HELP grpc_server_msg_sent_total Messages sent to clients.
# TYPE grpc_server_msg_sent_total counter
grpc_server_msg_sent_total{grpc_method="Check",grpc_service="docker.swarmkit.v1.Health",grpc_type="unary"} 1
grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="docker.swarmkit.v1.Watch",grpc_type="server_stream"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "grpc_server_handled_total", "grpc_server_msg_sent_total"); err != nil {
		t.Error(err)
	}
}

// term is who leads, as raft would say it.
type term struct {
	mu      sync.Mutex
	leader  LeaderInfo
	changed chan struct{}
	barrier func(context.Context) error
}

func (l *term) Leader() (LeaderInfo, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.leader, l.changed
}

func (*term) Connect(LeaderInfo) (grpc.ClientConnInterface, error) {
	return nil, errors.New("there are no others here")
}

func (*term) Absence() string { return "" }

func (l *term) elect(info LeaderInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leader = info
	if l.changed != nil {
		close(l.changed)
	}
	l.changed = nil
}

func (l *term) ReadBarrier(ctx context.Context) error { return l.barrier(ctx) }

func TestARequestWaitsForALeaderAndIsWokenByItsElection(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		route    Route
		deadline time.Duration // of the request; 0 is none
		elected  time.Duration // when; 0 is at the start, below 0 is never
		other    bool          // another manager is elected
		took     time.Duration
		want     model.Kind // Internal: no error
	}{
		{"it leads", Leader, 0, 0, false, 0, model.Internal},
		{"it is elected later", Leader, 0, time.Second, false, time.Second, model.Internal},
		{"nobody is", Leader, 0, -1, false, LeaderWait, model.Unavailable},
		{"the deadline is sooner", Leader, time.Second, -1, false, time.Second, model.Unavailable},
		{"another is", Leader, 0, time.Second, true, time.Second, model.Internal},
		{"a read waits for its barrier", Read, 0, time.Second, false, time.Second, model.Internal},
		{"a read without a leader", Read, 0, -1, false, LeaderWait, model.Unavailable},
		{"what is local does not wait", Local, 0, -1, false, 0, model.Internal},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &term{}
				l.barrier = func(ctx context.Context) error {
					info, changed := l.Leader()
					if info.Self {
						return nil
					}
					select {
					case <-changed:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				info := LeaderInfo{Self: true}
				if test.other {
					info = LeaderInfo{NodeID: "other", Addr: "10.0.0.2:4242"}
				}
				switch {
				case test.elected == 0:
					l.elect(info)
				case test.elected > 0:
					timer := time.AfterFunc(test.elected, func() { l.elect(info) })
					defer timer.Stop()
				}
				ctx := t.Context()
				if test.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.deadline)
					defer cancel()
				}
				began := time.Now()
				srv := &server{cfg: Config{Leadership: l}}
				m := &method{route: test.route}
				err := srv.read(ctx, m)
				if test.route == Leader {
					var elsewhere *forward
					elsewhere, err = srv.toLeader(ctx, Identity{})
					if (elsewhere != nil) != test.other || test.other && elsewhere.leader.Addr != "10.0.0.2:4242" {
						t.Errorf("it is answered at %v, want another manager: %t", elsewhere, test.other)
					}
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("took %s, want %s", took, test.took)
				}
				if (err == nil) != (test.want == model.Internal) || err != nil && model.KindOf(err) != test.want {
					t.Errorf("error %v, want kind %d", err, test.want)
				}
			})
		})
	}
}
