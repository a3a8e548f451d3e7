package manager

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"skep/api"
	"skep/ca"
	"skep/internal/memnet"
	"skep/model"
	"skep/rpc"
	"skep/store"
	"skep/vfs"
)

// swarm is managers of one swarm, each on a host of its own.
type swarm struct {
	net     *memnet.Net
	root    *ca.Root
	rootKey []byte
	cluster string
	ended   map[*Manager]chan error
	stop    []func()
}

func newSwarm() *swarm {
	return &swarm{net: memnet.New(1), cluster: model.NewID(rand.Reader), ended: map[*Manager]chan error{}}
}

// add runs a manager: the first founds the swarm, and the others join it there.
func (s *swarm) add(t *testing.T, name, ip string) *Manager {
	t.Helper()
	founds := s.root == nil
	now := time.Now()
	if founds {
		var err error
		if s.root, s.rootKey, err = ca.NewRoot(now); err != nil {
			t.Fatal(err)
		}
	}
	id := s.identity(t, name, now)
	host := s.net.AddHost(name, ip)
	cfg := Config{
		Identity: id, FS: vfs.NewMem(), Dir: "raft", Addr: ip + ":4242", Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Dial: func(addr string) (*grpc.ClientConn, error) {
			return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(id.ClientCredentials(ca.ManagerOU)),
				grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return host.DialContext(ctx, "tcp", addr) }))
		},
	}
	_, _ = rand.Read(cfg.RaftKey[:]) // never fails
	if founds {
		cfg.Founding = &Founding{RootKey: s.rootKey}
	} else {
		cfg.Managers = func() []string { return []string{"10.0.0.1:4242"} }
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, m, host, id.ServerCredentials())
	return m
}

func (s *swarm) identity(t *testing.T, name string, now time.Time) *ca.Identity {
	t.Helper()
	signer, err := ca.NewSigner(s.root, s.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := key.Request()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := signer.Sign(request, ca.Subject{NodeID: name, Org: s.cluster, Role: api.NodeRole_MANAGER}, now, ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.NewCertificate(s.root, chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return ca.NewIdentity(s.root, cert, time.Now)
}

func (s *swarm) run(t *testing.T, m *Manager, host *memnet.Host, creds credentials.TransportCredentials) {
	t.Helper()
	server, err := rpc.NewServer(rpc.Config{
		Credentials: creds, Authorizer: rpc.NewMembers(m.store, s.cluster), Leadership: m.Leadership(),
		Addr: m.cfg.Addr, Now: time.Now, Log: m.cfg.Log,
	}, m.Register)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := host.Listen("tcp", "0.0.0.0:4242")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.ended[m] = ended
	go func() { ended <- m.Run(ctx) }()
	s.stop = append(s.stop, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a manager ended with %v", err)
		}
		server.Stop()
		<-served
	})
}

// end stops all managers, none of which may have ended before.
func (s *swarm) end() {
	for _, stop := range s.stop {
		stop()
	}
}

// faulty gives a manager a leader's part that falls whenever something is sent to the channel.
func faulty(m *Manager) chan<- error {
	errs := make(chan error)
	real := m.parts
	m.parts = func() []part {
		return append(real(), part{"canary", func(ctx context.Context) error {
			select {
			case err := <-errs:
				return err
			case <-ctx.Done():
				return nil
			}
		}})
	}
	return errs
}

var errDied = errors.New("the canary died")

func TestAManagerWhoseLeadersPartFallsLetsAnotherLeadAndFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm()
		defer s.end()
		m1 := s.add(t, "m1", "10.0.0.1")
		fall := faulty(m1)
		if err := m1.AwaitServing(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m1.store.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Create(&api.Node{
				Id: "m2", Role: api.NodeRole_MANAGER, Status: &api.NodeStatus{State: api.NodeStatus_READY},
				Spec: &api.NodeSpec{DesiredRole: api.NodeRole_MANAGER, Membership: api.NodeSpec_ACCEPTED},
			})
		}); err != nil {
			t.Fatal(err)
		}
		m2 := s.add(t, "m2", "10.0.0.2")
		for len((group{m1}).status().Members) < 2 || len((group{m1}).status().Learners) > 0 {
			<-m1.raft.Load().Changed()
		}
		fall <- errDied
		if err := m2.AwaitServing(within(t, 2*time.Second)); err != nil {
			t.Fatalf("the other manager does not lead: %v", err)
		}
		<-time.After(10 * time.Second)
		if leader, _ := m1.leader.get(); m1.Leading() || leader.NodeID != "m2" {
			t.Errorf("the leader is %q for the manager whose part fell, and it leads: %t; want m2 alone", leader.NodeID, m1.Leading())
		}
		if err := m2.store.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Create(&api.Config{Id: "c", Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: "c"}}})
		}); err != nil {
			t.Error(err)
		}
		// It has connections to the members only.
		was, err := m1.conns.to("10.0.0.9:4242")
		if err != nil {
			t.Fatal(err)
		}
		is, err := m1.conns.to("10.0.0.2:4242")
		if err != nil {
			t.Fatal(err)
		}
		m2.HandOver(t.Context())
		if err := m1.AwaitServing(within(t, 10*time.Second)); err != nil {
			t.Errorf("it does not lead again when it is elected: %v", err)
		}
		<-time.After(answerLimit + time.Second)
		if !isClosed(was) || isClosed(is) {
			t.Errorf("closed: the connection to where no member is %t, the one to a member %t; want the first alone", isClosed(was), isClosed(is))
		}
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestTheOnlyManagerStartsTheLeadersPartsAgainAfterPausesAndSaysWhatFell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwarm()
		defer s.end()
		m := s.add(t, "m1", "10.0.0.1")
		fall := faulty(m)
		for i, want := range []time.Duration{0, fellFirst, 2 * fellFirst, 4 * fellFirst, 8 * fellFirst, 16 * fellFirst, fellLast, fellLast} {
			if err := m.AwaitServing(t.Context()); err != nil {
				t.Fatal(err)
			}
			fell := time.Now()
			fall <- errDied
			synctest.Wait()
			if want > 0 {
				if m.Leading() || !strings.Contains(m.Waits(), "canary: the canary died") || !strings.Contains(m.Leadership().Absence(), "the canary died") {
					t.Errorf("fall %d: it leads: %t; it waits since %q, and nobody leads since %q", i, m.Leading(), m.Waits(), m.Leadership().Absence())
				}
			}
			if err := m.AwaitServing(t.Context()); err != nil {
				t.Fatal(err)
			}
			if pause := time.Since(fell); pause < want || pause > want+time.Second/2 {
				t.Errorf("fall %d: it leads again after %v, want %v", i, pause, want)
			}
		}
		// Errors that are far between have little to do with each other.
		<-time.After(fellSeldom + time.Second)
		fell := time.Now()
		fall <- context.Canceled // whatever its error is: nobody has stopped it
		synctest.Wait()
		if err := m.AwaitServing(t.Context()); err != nil {
			t.Fatal(err)
		}
		if pause := time.Since(fell); pause > fellFirst/2 || m.Waits() != "" {
			t.Errorf("long after the others it leads again after %v and waits since %q", pause, m.Waits())
		}
	})
}

func TestALogWithoutASwarmEndsTheManager(t *testing.T) {
	t.Parallel()
	m := ofItself(t)
	if err := m.raft.Load().Close(); err != nil {
		t.Fatal(err)
	}
	cfg := m.cfg
	cfg.Founding = nil // as if what it knew were lost
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no cluster") {
		t.Errorf("it ends with %v", err)
	}
}
