package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/client"
	"skep/model"
	"skep/raft/transport"
	"skep/rpc"
	"skep/rpc/raftserver"
)

// lingering is how long gRPC may take to say farewell.
const lingering = 10 * time.Second

// network connects managers in memory.
type network struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	cables    []*cable
	dead      map[string]bool // addresses from which nothing comes and to which nothing gets
	rate      int             // bytes a second that the link to an address carries; 0: no bound
	busy      map[string]time.Time
	dials     map[string]int
	carried   int
}

func newNetwork(t testing.TB) *network {
	// gRPC goes on for a while after Close where a link is slow. In a bubble this takes no time.
	t.Cleanup(func() { <-time.After(lingering) })
	return &network{listeners: map[string]*bufconn.Listener{}, dead: map[string]bool{}, dials: map[string]int{}, busy: map[string]time.Time{}}
}

// cable is the dialing end of a connection.
type cable struct {
	net.Conn
	n      *network
	addr   string
	once   sync.Once
	closed chan struct{}
}

func (c *cable) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Write loses what is written while the address is dead, as an IP network does.
func (c *cable) Write(p []byte) (int, error) {
	c.n.mu.Lock()
	dead := c.n.dead[c.addr]
	c.n.carried += len(p)
	var wait time.Duration
	if c.n.rate > 0 { // all connections share the link
		free := c.n.busy[c.addr]
		if now := time.Now(); free.Before(now) {
			free = now
		}
		free = free.Add(time.Duration(len(p)) * time.Second / time.Duration(c.n.rate))
		c.n.busy[c.addr], wait = free, time.Until(free)
	}
	c.n.mu.Unlock()
	if dead {
		return len(p), nil
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Write(p)
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[addr]++
	l, dead := n.listeners[addr], n.dead[addr]
	n.mu.Unlock()
	if dead {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, errors.New("connection refused")
	}
	conn, err := l.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	c := &cable{Conn: conn, n: n, addr: addr, closed: make(chan struct{})}
	n.mu.Lock()
	n.cables = append(n.cables, c)
	n.mu.Unlock()
	return c, nil
}

// cut breaks the connections to an address.
func (n *network) cut(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.cables {
		if c.addr == addr {
			_ = c.Close()
		}
	}
}

func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// named are credentials that say a name in clear, where TLS would prove it.
type named string

func (c named) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	said := make(chan error, 1)
	go func() {
		_, err := conn.Write(append([]byte{byte(len(c))}, c...))
		said <- err
	}()
	size := []byte{0}
	_, err := io.ReadFull(conn, size)
	name := make([]byte, size[0])
	if err == nil {
		_, err = io.ReadFull(conn, name)
	}
	if err = errors.Join(err, <-said); err != nil {
		return nil, nil, err
	}
	return conn, ca.Peer{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		NodeID:         string(name), Org: "org", OUs: []string{ca.ManagerOU},
	}, nil
}

func (c named) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	return c.handshake(conn)
}

func (c named) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.handshake(conn)
}
func (c named) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "named"}
}
func (c named) Clone() credentials.TransportCredentials { return c }
func (c named) OverrideServerName(string) error         { return nil }

// swarm is what a server asks of the store: whoever has a certificate is a manager.
type swarm struct{}

func (swarm) ClusterID() string                      { return "org" }
func (swarm) Node(string) (api.NodeRole, bool, bool) { return api.NodeRole_MANAGER, true, false }

// manager is a member with a transport and a server, and in the place of raft it notes what
// comes.
type manager struct {
	t       testing.TB
	n       *network
	id      uint64
	node    string
	addr    string
	tr      *transport.Transport
	srv     *raftserver.Raft
	stopped func()

	raft        api.RaftServer
	replication skep.ReplicationServer // nil: it is a stock manager
	services    []func(grpc.ServiceRegistrar)

	mu        sync.Mutex
	members   []*api.RaftMember
	removed   []uint64
	got       []*raftpb.Message
	hashes    []string
	had       []*skep.Had
	told      []string // who said what, in order with got
	reachable map[uint64]bool
	lost      int // reports that a member is unreachable
	gone      int // calls of Removed
	reports   []string
	snapshots []*transport.Outgoing
	opened    int
	partial   map[string]*partial
	whole     [][]byte
	received  int                   // bytes of snapshots, repeated ones too
	stepped   func(*raftpb.Message) // instead of noting it
}

type option func(*manager, *transport.Config)

// start starts a manager at addr. It ends with the test, or by stop.
func (n *network) start(t testing.TB, id uint64, options ...option) *manager {
	t.Helper()
	m := &manager{
		t: t, n: n, id: id, node: fmt.Sprintf("node%d", id), addr: fmt.Sprintf("host%d", id),
		reachable: map[uint64]bool{}, partial: map[string]*partial{},
	}
	cfg := transport.Config{Self: id, Host: m, Dial: func(addr string) (*grpc.ClientConn, error) {
		return client.Dial(addr, named(m.node), grpc.WithContextDialer(n.dial))
	}}
	m.srv = &raftserver.Raft{Member: m, Members: m.Members, Removed: m.Removeds, Hashes: m.hash}
	m.raft, m.replication = m.srv, &raftserver.Replication{Raft: m.srv}
	m.srv.Found = func(id uint64, addr string) { m.tr.Found(id, addr) }
	m.srv.Reached = func(id uint64) string { return m.tr.Address(id) }
	for _, o := range options {
		o(m, &cfg)
	}
	cfg.Addr = m.addr
	m.services = []func(grpc.ServiceRegistrar){func(r grpc.ServiceRegistrar) { api.RegisterRaftServer(r, m.raft) }}
	if m.replication != nil {
		m.services = append(m.services, func(r grpc.ServiceRegistrar) { skep.RegisterReplicationServer(r, m.replication) })
	}
	var err error
	if m.tr, err = transport.New(cfg); err != nil {
		t.Fatal(err)
	}
	m.serve(m.addr, m.services...)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.tr.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	end := m.stopped
	m.stopped = sync.OnceFunc(func() { cancel(); running.Wait(); end() })
	t.Cleanup(m.stopped)
	return m
}

// serve listens at addr.
func (m *manager) serve(addr string, services ...func(grpc.ServiceRegistrar)) {
	m.t.Helper()
	server, err := rpc.NewServer(rpc.Config{Credentials: named(m.node), Authorizer: swarm{}}, services...)
	if err != nil {
		m.t.Fatal(err)
	}
	l := bufconn.Listen(256 << 10)
	m.n.set(func() { m.n.listeners[addr] = l })
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	m.stopped = sync.OnceFunc(func() {
		m.n.set(func() {
			if m.n.listeners[addr] == l {
				delete(m.n.listeners, addr)
			}
		})
		server.Stop()
		serving.Wait()
	})
	m.t.Cleanup(m.stopped)
}

// know says who the members are, to all of them.
func know(managers ...*manager) {
	var members []*api.RaftMember
	for _, m := range managers {
		members = append(members, m.member())
	}
	for _, m := range managers {
		m.knows(members...)
	}
}

func (m *manager) member() *api.RaftMember {
	return &api.RaftMember{RaftId: m.id, NodeId: m.node, Addr: m.addr}
}

func (m *manager) knows(members ...*api.RaftMember) {
	m.set(func() { m.members = members })
	m.tr.SetMembers(members)
}

func (m *manager) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *manager) Members() []*api.RaftMember {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members
}

func (m *manager) Removeds() []uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removed
}

func (m *manager) ID() uint64 { return m.id }

func (m *manager) Step(_ context.Context, msg *raftpb.Message) error {
	if m.stepped != nil {
		m.stepped(msg)
		return nil
	}
	m.set(func() { m.got = append(m.got, msg) })
	return nil
}

func (m *manager) hash(from, index uint64, hash []byte) {
	m.set(func() { m.hashes = append(m.hashes, fmt.Sprintf("%d %d %s", from, index, hash)) })
}

func (m *manager) Meet(id uint64, nodeID string) { m.tr.Meet(id, nodeID) }

func (m *manager) ReportReachable(id uint64) { m.set(func() { m.reachable[id] = true }) }
func (m *manager) ReportUnreachable(id uint64) {
	m.set(func() { m.reachable[id] = false; m.lost++ })
}
func (m *manager) Had() []*skep.Had {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.had
}
func (m *manager) Told(id uint64, had []*skep.Had) {
	said := fmt.Sprint(id, " after ", len(m.messages()), ":")
	for _, h := range had {
		said += fmt.Sprintf(" %d=%d/%d", h.GetMember(), h.GetTerm(), h.GetIndex())
	}
	m.set(func() { m.told = append(m.told, said) })
}
func (m *manager) Removed() { m.set(func() { m.gone++ }) }
func (m *manager) ReportSnapshot(id uint64, ok bool) {
	m.set(func() { m.reports = append(m.reports, fmt.Sprintf("%d %t", id, ok)) })
}

// messages returns what came, as "from:index".
func (m *manager) messages() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, g := range m.got {
		out = append(out, fmt.Sprintf("%d:%d", g.GetFrom(), g.GetIndex()))
	}
	return out
}

func (m *manager) sees(id uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reachable[id]
}

// message makes a message from m.
func (m *manager) message(t raftpb.MessageType, to *manager, index uint64) *raftpb.Message {
	return &raftpb.Message{Type: t.Enum(), From: &m.id, To: &to.id, Index: &index, Term: new(uint64(1))}
}

// partial is a snapshot that is being received. What is written stays, as on a disk.
type partial struct {
	m     *manager
	id    string
	msg   *raftpb.Message
	state bytes.Buffer
	open  bool
}

func (m *manager) ReceiveSnapshot(msg *raftpb.Message, h transport.Header) (raftserver.Incoming, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.partial[h.ID]
	if p == nil {
		p = &partial{m: m, id: h.ID}
		m.partial[h.ID] = p
	}
	if p.open {
		return nil, model.Errorf(model.Conflict, "snapshot %s is being received by another stream", h.ID)
	}
	p.open, p.msg = true, msg
	return p, nil
}

func (p *partial) Offset() uint64 { return uint64(p.state.Len()) }
func (p *partial) Write(b []byte) (int, error) {
	p.m.set(func() { p.m.received += len(b) })
	return p.state.Write(b)
}
func (p *partial) Close() error { p.m.set(func() { p.open = false }); return nil }
func (p *partial) Abort()       { p.m.set(func() { delete(p.m.partial, p.id) }) }
func (p *partial) Commit(context.Context) error {
	p.m.set(func() {
		delete(p.m.partial, p.id)
		p.m.whole = append(p.m.whole, slices.Clone(p.state.Bytes()))
		p.m.got = append(p.m.got, p.msg)
	})
	return nil
}

type state struct{ *bytes.Reader }

func (state) Close() error { return nil }

// OpenSnapshot returns the newest snapshot at index or later.
func (m *manager) OpenSnapshot(index uint64) (*transport.Outgoing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened++
	for _, o := range slices.Backward(m.snapshots) {
		if o.Meta.GetIndex() >= index {
			return o, nil
		}
	}
	return nil, model.Errorf(model.NotFound, "no snapshot at %d", index)
}

// holds gives m a snapshot of so many bytes, which it returns.
func (m *manager) holds(index uint64, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i*7 + i>>8 + int(index))
	}
	m.set(func() {
		m.snapshots = append(m.snapshots, &transport.Outgoing{
			ID: fmt.Sprintf("%d@%s", index, m.node), Meta: &raftpb.SnapshotMetadata{Index: &index, Term: new(uint64(1))},
			Size: uint64(size), State: state{bytes.NewReader(data)},
		})
	})
	return data
}

func (m *manager) snapshotMessage(to *manager, index uint64) *raftpb.Message {
	msg := m.message(raftpb.MsgSnap, to, 0)
	msg.Snapshot = &raftpb.Snapshot{Data: []byte("name"), Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: new(uint64(1))}}
	return proto.CloneOf(msg)
}
