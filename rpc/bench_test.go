package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/client"
)

// BenchmarkEmptyCall is what a call costs before it does anything: 64 callers
// over 8 connections.
func BenchmarkEmptyCall(b *testing.B) {
	s := newSwarm(b)
	s.node(b, "m2", api.NodeRole_MANAGER)
	h := health{check: func(context.Context) error { return nil }}
	call := func(b *testing.B, connect func() client.Clients) {
		b.Helper()
		var clients [8]client.Clients
		for i := range clients {
			clients[i] = connect()
		}
		var next atomic.Uint64
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			c := clients[next.Add(1)%8]
			for pb.Next() {
				if _, err := c.Health.Check(context.Background(), &api.HealthCheckRequest{}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.Run("transport=tls", func(b *testing.B) {
		addr := s.remote(b, Config{}, h.register)
		id := s.identity(b, "m2", org, api.NodeRole_MANAGER)
		call(b, func() client.Clients { return dial(b, addr, id) })
	})
	b.Run("transport=socket", func(b *testing.B) {
		l, err := ListenLocal(filepath.Join(b.TempDir(), "s"))
		if err != nil {
			b.Fatal(err)
		}
		self := s.identity(b, "manager", org, api.NodeRole_MANAGER)
		path := serve(b, l, Config{Credentials: LocalCredentials(self.ServerCredentials()), Local: Self(self, "")}, h.register)
		call(b, func() client.Clients {
			conn, err := client.DialSocket(path)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = conn.Close() })
			return client.New(conn)
		})
	})
}

// BenchmarkForward is what a follower and the leader do together for a message of a stream,
// and for a request, that the follower passes on.
func BenchmarkForward(b *testing.B) {
	m := newManagers(b)
	worker := m.identity(b, "worker", org, api.NodeRole_WORKER)
	b.Run("stream/peers=200", func(b *testing.B) {
		message := &api.SessionMessage{SessionId: "s"}
		for i := range 200 {
			message.Managers = append(message.Managers, &api.WeightedPeer{Peer: &api.Peer{NodeId: fmt.Sprintf("node-%025d", i), Addr: "192.0.2.1:4242"}, Weight: 10})
		}
		n := b.N
		m.served[0].sessions = func(s grpc.ServerStreamingServer[api.SessionMessage]) error {
			for range n {
				if err := s.Send(message); err != nil {
					return err
				}
			}
			return nil
		}
		b.ReportAllocs()
		b.SetBytes(int64(proto.Size(message)))
		s, err := dial(b, m.addrs[1], worker).Dispatcher.Session(context.Background(), &api.SessionRequest{})
		for err == nil {
			err = s.RecvMsg(&api.SessionMessage{})
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	})
	b.Run("unary", func(b *testing.B) {
		m.served[0].remove = func(context.Context) error { return nil }
		c := dial(b, m.addrs[1], m.ids[2]).Control
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.RemoveService(context.Background(), &api.RemoveServiceRequest{ServiceId: "s"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
