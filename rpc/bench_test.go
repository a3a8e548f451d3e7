package rpc

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"

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
