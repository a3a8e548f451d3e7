package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"skep/api"
	"skep/client"
	"skep/model"
)

// follower is a manager in a bubble that believes in the leader that reach reaches, and what
// it does with requests when it leads itself.
type follower struct {
	*place
	answers
	client client.Clients
}

var (
	oldLeader = LeaderInfo{NodeID: "m1", Addr: "m1:4242"}
	newLeader = LeaderInfo{NodeID: "m3", Addr: "m3:4242"}
	itself    = LeaderInfo{Self: true, NodeID: "m2", Addr: "m2:4242"}
)

// bubbled serves in memory and returns how it is reached.
func bubbled(t *testing.T, leadership Leadership, a *answers) func(context.Context, string) (net.Conn, error) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	serve(t, l, Config{
		Credentials: LocalCredentials(nil), Local: func() Identity { return Identity{NodeID: "m2"} }, Leadership: leadership,
	}, a.register)
	return func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
}

// reached returns a connection over what reach returns.
func reached(t *testing.T, reach func(context.Context, string) (net.Conn, error)) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///m", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(reach), grpc.WithIdleTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// newFollower returns one that reaches its leader by reach.
func newFollower(t *testing.T, reach func(context.Context, string) (net.Conn, error)) *follower {
	t.Helper()
	f := &follower{place: &place{conns: map[string]grpc.ClientConnInterface{}}}
	f.elect(oldLeader)
	f.conns[oldLeader.Addr] = reached(t, reach)
	f.client = client.New(reached(t, bubbled(t, f.place, &f.answers)))
	f.remove = func(context.Context) error { return nil }
	f.sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
		if f.asked.Load() != "asked" {
			return model.Errorf(model.Invalid, "session %q is not the one that was asked for", f.asked.Load())
		}
		f.calls.Add(1)
		return s.Send(&api.SessionMessage{})
	}
	f.publish = func(s grpc.ClientStreamingServer[api.PublishLogsMessage, api.PublishLogsResponse]) error {
		for {
			if m, err := s.Recv(); errors.Is(err, io.EOF) {
				return s.SendAndClose(&api.PublishLogsResponse{})
			} else if err != nil || m.GetSubscriptionId() != "s" {
				return errors.Join(err, model.Errorf(model.Invalid, "message of %q", m.GetSubscriptionId()))
			}
			f.calls.Add(1)
		}
	}
	return f
}

// requests are one of each kind, and say whether they were answered by m2.
func (f *follower) requests() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"unary": func(ctx context.Context) error {
			_, err := f.client.Control.RemoveService(ctx, &api.RemoveServiceRequest{})
			return err
		},
		"server stream": func(ctx context.Context) error {
			s, err := f.client.Dispatcher.Session(ctx, &api.SessionRequest{SessionId: "asked"})
			if err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		},
		"client stream": func(ctx context.Context) error {
			s, err := f.client.LogBroker.PublishLogs(ctx)
			if err == nil {
				err = s.Send(&api.PublishLogsMessage{SubscriptionId: "s"})
			}
			if err == nil {
				_, err = s.CloseAndRecv()
			}
			return err
		},
	}
}

func refused(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }

// silent is a machine without power: nobody says that it is not there.
func silent(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }

func TestAFollowerThatComesToLeadServesWhatItCouldNotPassOn(t *testing.T) {
	t.Parallel()
	for how, reach := range map[string]func(context.Context, string) (net.Conn, error){"refused": refused, "silent": silent} {
		for _, kind := range []string{"unary", "server stream", "client stream"} {
			t.Run(how+", "+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFollower(t, reach)
					time.AfterFunc(time.Second, func() { f.elect(LeaderInfo{}) })
					time.AfterFunc(2*time.Second, func() { f.elect(itself) })
					began := time.Now()
					if err := f.requests()[kind](t.Context()); err != nil || f.calls.Load() != 1 {
						t.Errorf("%v, %d calls here", err, f.calls.Load())
					}
					if took := time.Since(began); took != 2*time.Second {
						t.Errorf("it took %v, want two seconds: it is woken by the election", took)
					}
				})
			})
		}
	}
}

func TestWhatCannotBePassedOnGoesToTheNextLeader(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unary", "server stream", "client stream"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFollower(t, silent)
				next := newFollower(t, refused)
				next.elect(itself)
				f.conns[newLeader.Addr] = reached(t, bubbled(t, next.place, &next.answers))
				time.AfterFunc(time.Second, func() { f.elect(newLeader) })
				if err := f.requests()[kind](t.Context()); err != nil || next.calls.Load()+f.calls.Load() != 1 {
					t.Errorf("%v, %d calls there", err, next.calls.Load())
				}
			})
		})
	}
}

func TestALeaderThatDidNothingIsAskedUntilThisManagerLeads(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"unary", "server stream"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				nothing := model.Errorf(model.Unavailable, "leadership was lost: nothing was applied")
				old := &answers{
					remove:   func(context.Context) error { return nothing },
					sessions: func(grpc.ServerStreamingServer[api.SessionMessage]) error { return nothing },
				}
				leads := &place{}
				leads.elect(itself)
				f := newFollower(t, bubbled(t, leads, old))
				time.AfterFunc(time.Second+retryPause/2, func() { f.elect(itself) }) // between two tries
				if err := f.requests()[kind](t.Context()); err != nil || f.calls.Load() != 1 {
					t.Errorf("%v, %d calls here", err, f.calls.Load())
				}
			})
		})
	}
}

func TestWhatWasNotAppliedEndsWithAdviceToTryAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leads := &place{}
		leads.elect(itself)
		old := &answers{remove: func(context.Context) error {
			return model.Errorf(model.Unavailable, "leadership was lost: nothing was applied")
		}}
		f := newFollower(t, bubbled(t, leads, old))
		began := time.Now()
		err := f.requests()["unary"](t.Context())
		if _, advised := model.Advised(err); !advised || !strings.Contains(err.Error(), "nothing was applied") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took < LeaderWait || took > LeaderWait+time.Second {
			t.Errorf("it took %v, want about %v", took, LeaderWait)
		}
	})
}

func TestAWriteAtALeaderThatIsGoneHasAnUnknownOutcomeOnceAnotherLeads(t *testing.T) {
	t.Parallel()
	for what, next := range map[string]LeaderInfo{"another": newLeader, "this one": itself} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				leads := &place{}
				leads.elect(itself)
				old := &answers{remove: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }} // it never answers
				f := newFollower(t, bubbled(t, leads, old))
				time.AfterFunc(time.Second, func() { f.elect(next) })
				began := time.Now()
				err := f.requests()["unary"](t.Context())
				if !outcomeUnknown(err) || !strings.Contains(err.Error(), "outcome unknown: the connection to the leader at m1:4242 broke off") || f.calls.Load() != 0 {
					t.Errorf("error %v, %d calls here", err, f.calls.Load())
				}
				if took := time.Since(began); took != time.Second+LeaderWait {
					t.Errorf("it took %v, want %v after the other leads", took, LeaderWait)
				}
			})
		})
	}
}

func TestALeaderThatHandsOverAnswersWhatItWasAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leads := &place{}
		leads.elect(itself)
		old := &answers{}
		old.remove = func(ctx context.Context) error {
			timer := time.NewTimer(2 * time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		f := newFollower(t, bubbled(t, leads, old))
		time.AfterFunc(time.Second, func() { f.elect(newLeader) })
		if err := f.requests()["unary"](t.Context()); err != nil || old.calls.Load() != 1 {
			t.Errorf("error %v after %d calls", err, old.calls.Load())
		}
	})
}

func TestAStreamAtALeaderThatIsGoneEndsWhenAnotherLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leads := &place{}
		leads.elect(itself)
		old := &answers{sessions: func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
			if err := s.Send(&api.SessionMessage{}); err != nil {
				return err
			}
			<-s.Context().Done()
			return s.Context().Err()
		}}
		f := newFollower(t, bubbled(t, leads, old))
		s, err := f.client.Dispatcher.Session(t.Context(), &api.SessionRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { f.elect(LeaderInfo{}) })
		time.AfterFunc(2*time.Second, func() { f.elect(newLeader) })
		began := time.Now()
		_, err = s.Recv()
		if _, advised := model.Advised(err); !advised || time.Since(began) != 2*time.Second {
			t.Errorf("after %v it ends with %v", time.Since(began), err)
		}
	})
}

func TestALoopIsRefusedAlsoWhileLeadersChange(t *testing.T) {
	t.Parallel()
	m := newManagers(t)
	m.served[1].remove = func(context.Context) error { return nil }
	m.places[1].elect(LeaderInfo{NodeID: "m3", Addr: m.addrs[2]})
	m.places[2].elect(LeaderInfo{NodeID: "m2", Addr: m.addrs[1]})
	timer := time.AfterFunc(3*retryPause, func() { m.places[1].elect(LeaderInfo{Self: true, NodeID: "m2", Addr: m.addrs[1]}) })
	defer timer.Stop()
	if _, err := dial(t, m.addrs[1], m.ids[0]).Control.RemoveService(t.Context(), &api.RemoveServiceRequest{}); err != nil {
		t.Errorf("once one of two that pass on to each other leads: %v", err)
	}
	if n := m.served[1].calls.Load(); n != 1 || m.served[2].calls.Load() != 0 {
		t.Errorf("carried out %d times there, want once", n)
	}
}
