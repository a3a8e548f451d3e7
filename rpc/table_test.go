package rpc

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
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/client"
)

// between are the services of managers among themselves, which the socket does not offer.
func between(r grpc.ServiceRegistrar) {
	api.RegisterRaftServer(r, api.UnimplementedRaftServer{})
	api.RegisterRaftMembershipServer(r, api.UnimplementedRaftMembershipServer{})
	skep.RegisterReplicationServer(r, skep.UnimplementedReplicationServer{})
}

// offered are all others. Whoever is let in hears that nobody implements them.
func offered(r grpc.ServiceRegistrar) {
	api.RegisterCAServer(r, api.UnimplementedCAServer{})
	api.RegisterNodeCAServer(r, api.UnimplementedNodeCAServer{})
	api.RegisterControlServer(r, api.UnimplementedControlServer{})
	api.RegisterDispatcherServer(r, api.UnimplementedDispatcherServer{})
	api.RegisterHealthServer(r, api.UnimplementedHealthServer{})
	api.RegisterLogsServer(r, api.UnimplementedLogsServer{})
	api.RegisterLogBrokerServer(r, api.UnimplementedLogBrokerServer{})
	api.RegisterResourceAllocatorServer(r, api.UnimplementedResourceAllocatorServer{})
	api.RegisterWatchServer(r, api.UnimplementedWatchServer{})
	skep.RegisterInsightServer(r, skep.UnimplementedInsightServer{})
	skep.RegisterRecoveryServer(r, skep.UnimplementedRecoveryServer{})
}

// own is what only the socket offers.
func own(r grpc.ServiceRegistrar) { skep.RegisterLocalServer(r, skep.UnimplementedLocalServer{}) }

// certificate is one of node id, made by s at some time.
func (s swarm) certificate(t *testing.T, id, org string, role api.NodeRole, at time.Time) []tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.signer.Sign(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), ca.Subject{NodeID: id, Org: org, Role: role}, at, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(chain)
	return []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}
}

// caller is a column of the table.
type caller struct {
	name    string
	conns   [2]*grpc.ClientConn // to the leader, to a follower
	context func(context.Context) context.Context
}

// callers makes the columns of the table that hold for whole methods. What depends on
// whose object it is, is tried where the objects are.
func callers(t *testing.T) []*caller {
	t.Helper()
	s, foreign := newSwarm(t), newSwarm(t)
	for id, role := range map[string]api.NodeRole{
		"m1": api.NodeRole_MANAGER, "m2": api.NodeRole_MANAGER, "m3": api.NodeRole_MANAGER,
		"worker": api.NodeRole_WORKER, "demoted": api.NodeRole_WORKER,
	} {
		s.node(t, id, role)
	}
	var remote, local [2]string
	for i, name := range []string{"m1", "m2"} {
		l := loopback(t)
		id := s.identity(t, name, org, api.NodeRole_MANAGER)
		p := &place{conns: map[string]grpc.ClientConnInterface{}}
		p.barrier = func(context.Context) error { return nil }
		cfg := Config{Credentials: id.ServerCredentials(), Authorizer: NewMembers(s.store, org), Leadership: p, Addr: l.Addr().String()}
		remote[i] = serve(t, l, cfg, offered, between)
		socket, err := ListenLocal(filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Credentials, cfg.Local, cfg.Authorizer = LocalCredentials(nil), Self(id, ""), nil
		local[i] = serve(t, socket, cfg, offered, own)
		p.elect(LeaderInfo{Self: i == 0, NodeID: "m1", Addr: remote[0]})
		conn, err := client.Dial(remote[0], id.ClientCredentials(ca.ManagerOU))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		p.conns[remote[0]] = conn
	}
	plain := func(ctx context.Context) context.Context { return ctx }
	forged := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, metaForwarded, "true", metaNode, "m3", metaOrg, org, metaRole, ca.ManagerOU)
	}
	now := time.Now()
	const worker, manager = api.NodeRole_WORKER, api.NodeRole_MANAGER
	var all []*caller
	for _, c := range []struct {
		name string
		with []tls.Certificate
		ctx  func(context.Context) context.Context
	}{
		{"no cert", nil, plain},
		{"expired cert", s.certificate(t, "m3", org, manager, now.Add(-48*time.Hour)), plain},
		{"wrong org", s.certificate(t, "m3", "other", manager, now), plain},
		{"foreign CA", foreign.certificate(t, "m3", org, manager, now), plain},
		{"worker", s.certificate(t, "worker", org, worker, now), plain},
		{"removed worker", s.certificate(t, "removed", org, worker, now), plain},
		{"removed manager", s.certificate(t, "removed", org, manager, now), plain},
		{"demoted manager", s.certificate(t, "demoted", org, manager, now), plain},
		{"worker that forges", s.certificate(t, "worker", org, worker, now), forged},
		{"removed manager that forges", s.certificate(t, "removed", org, manager, now), forged},
		{"manager", s.certificate(t, "m3", org, manager, now), plain},
	} {
		one := &caller{name: c.name, context: c.ctx}
		for i, addr := range remote {
			secure := credentials.NewTLS(&tls.Config{Certificates: c.with, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // the servers are on trial, not the client
			conn, err := client.Dial(addr, secure)
			if err != nil {
				t.Fatal(err)
			}
			one.conns[i] = conn
		}
		all = append(all, one)
	}
	socket := &caller{name: "unix socket", context: plain}
	for i, path := range local {
		conn, err := client.DialSocket(path)
		if err != nil {
			t.Fatal(err)
		}
		socket.conns[i] = conn
	}
	all = append(all, socket)
	for _, c := range all {
		for _, conn := range c.conns {
			t.Cleanup(func() { _ = conn.Close() })
		}
	}
	return all
}

// try calls a method with an empty request and says in a word what became of it.
func (c *caller) try(ctx context.Context, at int, m *method) string {
	ctx, cancel := context.WithTimeout(c.context(ctx), time.Minute)
	defer cancel()
	stream, err := c.conns[at].NewStream(ctx, &grpc.StreamDesc{ServerStreams: m.serverStreams, ClientStreams: m.clientStreams}, m.full, grpc.ForceCodecV2(newFrames()))
	if err == nil {
		if err = stream.SendMsg(&frame{}); err == nil || errors.Is(err, io.EOF) {
			_ = stream.CloseSend() // the answer tells
			err = stream.RecvMsg(&frame{})
		}
	}
	st := status.Convert(err)
	switch {
	case st.Code() == codes.Unimplemented && strings.Contains(st.Message(), "is not served here"):
		return "not offered"
	case st.Code() == codes.Unimplemented:
		return "let in"
	case st.Code() == codes.PermissionDenied:
		return "denied"
	case st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), loopText):
		return "denied" // who says that it passes a request on to a follower gets no further
	case brokeOff(err):
		return "no handshake"
	}
	return fmt.Sprintf("%v", err)
}

// TestTheTableOfWhoMayCallWhat runs each row of the table for every method of its group and
// every caller, at the leader and through a follower that passes on, over TLS.
func TestTheTableOfWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	all := callers(t)
	tried := map[string]bool{}
	datadriven.RunTest(t, filepath.Join("testdata", "who_may_call_what"), func(t *testing.T, d *datadriven.TestData) string {
		t.Helper()
		var group []*method
		for _, line := range strings.Fields(d.Input) {
			service, name, _ := strings.Cut(line, "/")
			methods, err := methodsOf(service)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range methods {
				if name == "*" || name == m.name {
					group = append(group, m)
					tried[m.full] = true
				}
			}
		}
		var out strings.Builder
		for _, c := range all {
			cells := [2]string{}
			for i := range cells {
				for _, m := range group {
					cell := c.try(t.Context(), i, m)
					if cells[i] == "" {
						cells[i] = cell
					} else if cells[i] != cell {
						t.Errorf("%s, %s, %s: %s, others of its group: %s", m.full, c.name, []string{"leader", "follower"}[i], cell, cells[i])
					}
				}
			}
			fmt.Fprintf(&out, "%s: %s", c.name, cells[0])
			if cells[1] != cells[0] {
				fmt.Fprintf(&out, "; at a follower: %s", cells[1])
			}
			out.WriteByte('\n')
		}
		return out.String()
	})
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if file.Package() != "docker.swarmkit.v1" && file.Package() != "skep.v1" {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for k := range service.Methods().Len() {
				if full := fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(k).Name()); !tried[full] {
					t.Errorf("%s has no row in the table", full)
				}
			}
		}
		return true
	})
}
