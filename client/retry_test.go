package client

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
)

// refusing answers each call with the next of its errors, then with none.
type refusing struct {
	api.UnimplementedControlServer
	errs  []error
	calls int
}

func (r *refusing) next() error {
	r.calls++
	if len(r.errs) == 0 {
		return nil
	}
	err := r.errs[0]
	r.errs = r.errs[1:]
	return err
}

func (r *refusing) CreateConfig(context.Context, *api.CreateConfigRequest) (*api.CreateConfigResponse, error) {
	return &api.CreateConfigResponse{}, r.next()
}

func (r *refusing) ListConfigs(context.Context, *api.ListConfigsRequest) (*api.ListConfigsResponse, error) {
	return &api.ListConfigsResponse{}, r.next()
}

func write(ctx context.Context, c api.ControlClient) error {
	_, err := c.CreateConfig(ctx, &api.CreateConfigRequest{})
	return err
}

func read(ctx context.Context, c api.ControlClient) error {
	_, err := c.ListConfigs(ctx, &api.ListConfigsRequest{})
	return err
}

func advised(after time.Duration) error {
	st, err := status.New(codes.Unavailable, "no leader").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	if err != nil {
		return err
	}
	return st.Err()
}

func TestWhatDidNothingIsTriedAgain(t *testing.T) {
	t.Parallel()
	lost := status.Error(codes.Unavailable, "connection reset")
	tests := []struct {
		name  string
		call  func(context.Context, api.ControlClient) error
		errs  []error
		want  codes.Code
		calls int
		took  time.Duration
	}{
		{"a write that the manager advises to try again", write, []error{advised(time.Second), advised(2 * time.Second)}, codes.OK, 3, 3 * time.Second},
		{"a write whose answer got lost is for the caller to look into", write, []error{lost}, codes.Unavailable, 1, 0},
		{"a read whose answer got lost", read, []error{lost, lost}, codes.OK, 3, 100 * time.Millisecond},
		{"a conflict", write, []error{status.Error(codes.Aborted, "update out of sequence")}, codes.Aborted, 1, 0},
		{"an outcome that nobody knows", write, []error{status.Error(codes.Unknown, "outcome unknown")}, codes.Unknown, 1, 0},
		{"the deadline ends it with what was answered last", write, []error{advised(time.Minute)}, codes.Unavailable, 1, 10 * time.Second},
		{"advice without a delay is no reason to hurry", write, []error{advised(0)}, codes.OK, 2, 50 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := bufconn.Listen(1 << 16)
				s := &refusing{errs: tt.errs}
				g := grpc.NewServer()
				api.RegisterControlServer(g, s)
				served := make(chan error, 1)
				go func() { served <- g.Serve(l) }()
				conn, err := grpc.NewClient("passthrough:///m", grpc.WithTransportCredentials(insecure.NewCredentials()),
					grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }), Retry())
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				began := time.Now()
				err = tt.call(ctx, api.NewControlClient(conn))
				if took := time.Since(began); status.Code(err) != tt.want || s.calls != tt.calls || took != tt.took {
					t.Errorf("%d calls, %v after %s, want %d calls, %s after %s", s.calls, err, took, tt.calls, tt.want, tt.took)
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
				g.Stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestCallsWaitUntilAManagerIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		g := grpc.NewServer()
		api.RegisterControlServer(g, &refusing{})
		served := make(chan error, 1)
		up := time.Now().Add(7 * time.Second)
		time.AfterFunc(7*time.Second, func() { served <- g.Serve(l) })
		conn, err := DialSocket("s", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if time.Now().Before(up) {
				return nil, net.ErrClosed
			}
			return l.DialContext(ctx)
		}), Retry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := write(ctx, api.NewControlClient(conn)); err != nil {
			t.Error(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
