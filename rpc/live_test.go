package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/internal/memnet"
	"skep/model"
	"skep/store"
)

// bubble is a leader, a follower and their callers on a network in memory.
type bubble struct {
	swarm
	net    *memnet.Net
	places [2]*place
	served [2]*answers
	watch  watch
}

const bubbleAddr0, bubbleAddr1 = "10.0.0.1:2377", "10.0.0.2:2377"

func newBubble(t *testing.T) *bubble {
	t.Helper()
	b := &bubble{swarm: newSwarm(t), net: memnet.New(1)}
	b.watch.watch = func(s grpc.ServerStreamingServer[api.WatchMessage]) error {
		<-s.Context().Done()
		return s.Context().Err()
	}
	b.net.AddHost("caller", "10.0.0.9")
	names, addrs := [2]string{"m1", "m2"}, [2]string{bubbleAddr0, bubbleAddr1}
	for i, name := range names {
		b.node(t, name, api.NodeRole_MANAGER)
		id := b.identity(t, name, org, api.NodeRole_MANAGER)
		b.places[i] = &place{conns: map[string]grpc.ClientConnInterface{}}
		b.places[i].barrier = func(context.Context) error { return nil }
		b.places[i].elect(LeaderInfo{Self: i == 0, NodeID: "m1", Addr: addrs[0]})
		b.served[i] = &answers{
			sessions: func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
				<-s.Context().Done()
				return s.Context().Err()
			},
			publish: func(s grpc.ClientStreamingServer[api.PublishLogsMessage, api.PublishLogsResponse]) error {
				_, err := s.Recv() // nobody sends
				return err
			},
		}
		l, err := b.net.AddHost(name, fmt.Sprintf("10.0.0.%d", i+1)).Listen("tcp", addrs[i])
		if err != nil {
			t.Fatal(err)
		}
		serve(t, l, Config{
			Credentials: id.ServerCredentials(), Authorizer: NewMembers(b.store, org), Leadership: b.places[i], Addr: addrs[i],
		}, b.served[i].register, b.watch.register)
		b.places[i].conns[addrs[0]] = b.dial(t, name, addrs[0], id)
	}
	return b
}

// dial connects a host to an address.
func (b *bubble) dial(t *testing.T, host, addr string, id *ca.Identity) *grpc.ClientConn {
	t.Helper()
	conn, err := client.Dial(addr, id.ClientCredentials(ca.ManagerOU), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return b.net.Host(host).DialContext(ctx, "tcp", addr)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// the streams on which nothing is said, and what opens them.
var idle = map[string]func(context.Context, client.Clients) (recv func() error, err error){
	"session": func(ctx context.Context, c client.Clients) (func() error, error) {
		s, err := c.Dispatcher.Session(ctx, &api.SessionRequest{})
		return func() error { _, err := s.Recv(); return err }, err
	},
	"publish": func(ctx context.Context, c client.Clients) (func() error, error) {
		s, err := c.LogBroker.PublishLogs(ctx)
		return func() error { return s.RecvMsg(new(api.PublishLogsResponse)) }, err
	},
	"watch": func(ctx context.Context, c client.Clients) (func() error, error) {
		s, err := c.Watch.Watch(ctx, &api.WatchRequest{})
		return func() error { _, err := s.Recv(); return err }, err
	},
}

// ending is a stream whose end is awaited.
type ending struct {
	err error
	at  time.Time
	end chan struct{}
}

func (b *bubble) begin(t *testing.T, what, host, addr string, id *ca.Identity) *ending {
	t.Helper()
	recv, err := idle[what](t.Context(), client.New(b.dial(t, host, addr, id)))
	if err != nil {
		t.Fatal(err)
	}
	e := &ending{end: make(chan struct{})}
	go func() {
		defer close(e.end)
		for e.err == nil {
			e.err = recv()
		}
		e.at = time.Now()
	}()
	synctest.Wait()
	select {
	case <-e.end:
		t.Fatalf("%s at %s ended early: %v", what, addr, e.err)
	default:
	}
	return e
}

func (b *bubble) role(t *testing.T, id string, role api.NodeRole) {
	t.Helper()
	b.write(t, func(tx *store.Tx) error {
		node, _ := tx.Nodes.Get(id)
		node = model.Shallow(node)
		node.Role = role
		return tx.Update(node)
	})
}

func TestIdleStreamsEndAtOnceWithTheRightsOfTheirCaller(t *testing.T) {
	t.Parallel()
	removal := func(id string) func(*testing.T, *bubble) {
		return func(t *testing.T, b *bubble) {
			t.Helper()
			b.write(t, func(tx *store.Tx) error {
				removed, err := model.NewRemovedNode(id, nil)
				return errors.Join(err, tx.Create(removed), tx.Remove(store.KindNode, id))
			})
		}
	}
	demotion := func(id string) func(*testing.T, *bubble) {
		return func(t *testing.T, b *bubble) {
			t.Helper()
			b.role(t, id, api.NodeRole_WORKER)
		}
	}
	blacklisting := func(id string) func(*testing.T, *bubble) {
		return func(t *testing.T, b *bubble) {
			t.Helper()
			b.write(t, func(tx *store.Tx) error {
				cluster, _ := tx.Clusters.Get(org)
				cluster = model.Shallow(cluster)
				cluster.BlacklistedCertificates = map[string]*api.BlacklistedCertificate{"removed": {}, id: {}}
				return tx.Update(cluster)
			})
		}
	}
	tests := []struct {
		name, stream, caller string
		happens              func(*testing.T, *bubble)
		direct, through      bool // whether it ends, at the leader and through a follower
	}{
		{"a worker is removed", "session", "worker", removal("worker"), true, true},
		{"a worker that is to say something is removed", "publish", "worker", removal("worker"), true, true},
		{"a worker's certificate is blacklisted", "session", "worker", blacklisting("worker"), true, true},
		{"another worker is removed", "session", "worker", removal("other"), false, false},
		{"a manager that watches is removed", "watch", "third", removal("third"), true, true},
		{"a manager that watches is demoted", "watch", "third", demotion("third"), true, true},
		{"a demoted manager is a worker", "session", "third", demotion("third"), false, false},
		{"who passes it on is removed", "session", "worker", removal("m2"), false, true},
		{"who passes it on is demoted", "publish", "worker", demotion("m2"), false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t)
				b.node(t, "worker", api.NodeRole_WORKER)
				b.node(t, "other", api.NodeRole_WORKER)
				b.node(t, "third", api.NodeRole_MANAGER)
				role := api.NodeRole_WORKER
				if test.caller == "third" {
					role = api.NodeRole_MANAGER
				}
				id := b.identity(t, test.caller, org, role)
				streams := map[*ending]bool{
					b.begin(t, test.stream, "caller", bubbleAddr0, id): test.direct,
					b.begin(t, test.stream, "caller", bubbleAddr1, id): test.through,
				}
				began := time.Now()
				test.happens(t, b)
				time.Sleep(5 * time.Second)
				code := codes.PermissionDenied
				if test.stream == "publish" {
					code = codes.Canceled // gRPC says so by itself when the wait for a message is ended
				}
				for e, ends := range streams {
					select {
					case <-e.end:
						if took := e.at.Sub(began); !ends || took > 100*time.Millisecond || status.Code(e.err) != code {
							t.Errorf("it ended after %v with %v; should it: %t", took, e.err, ends)
						}
					default:
						if ends {
							t.Error("it goes on")
						}
					}
				}
			})
		})
	}
}

func TestAStreamWhoseCallerDoesNotReadEndsToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.node(t, "worker", api.NodeRole_WORKER)
		ended := make(chan error, 1)
		b.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
			for {
				if err := s.Send(&api.SessionMessage{RootCA: make([]byte, 64<<10)}); err != nil {
					ended <- err
					return err
				}
			}
		}
		c := client.New(b.dial(t, "caller", bubbleAddr0, b.identity(t, "worker", org, api.NodeRole_WORKER)))
		if _, err := c.Dispatcher.Session(t.Context(), &api.SessionRequest{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.write(t, func(tx *store.Tx) error { return tx.Remove(store.KindNode, "worker") })
		synctest.Wait()
		select {
		case <-ended:
		default:
			t.Error("the handler still waits for room to send")
		}
	})
}

func TestAConnectionEndsWithTheCertificateOfItsClient(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"at the leader": bubbleAddr0, "through a follower": bubbleAddr1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t)
				b.node(t, "worker", api.NodeRole_WORKER)
				id := b.identity(t, "worker", org, api.NodeRole_WORKER, time.Hour)
				e := b.begin(t, "session", "caller", addr, id)
				left := time.Until(id.Certificate().NotAfter)
				time.Sleep(left - time.Second)
				select {
				case <-e.end:
					t.Fatalf("it ended early: %v", e.err)
				default:
				}
				time.Sleep(2 * time.Second)
				select {
				case <-e.end:
				default:
					t.Error("it goes on")
				}
			})
		})
	}
}

func TestAConnectionWhoseOtherEndIsGoneIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		b.node(t, "worker", api.NodeRole_WORKER)
		ended := make(chan struct{})
		b.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
			defer close(ended)
			<-s.Context().Done()
			return s.Context().Err()
		}
		b.begin(t, "session", "caller", bubbleAddr0, b.identity(t, "worker", org, api.NodeRole_WORKER))
		b.net.Host("caller").PowerOff()
		began := time.Now()
		<-ended
		if took := time.Since(began); took > keepaliveTime+keepaliveTimeout {
			t.Errorf("its requests ended after %v", took)
		}
	})
}
