package transport_test

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"skep/raft/transport"
)

// BenchmarkMessages sends entries of 1 KB from one manager to another over one stream, at
// most 4096 ahead of the receiver.
func BenchmarkMessages(b *testing.B) {
	n := newNetwork(b)
	const ahead = 4096
	free := make(chan struct{}, ahead)
	x, y := n.start(b, 1), n.start(b, 2, func(m *manager, _ *transport.Config) {
		m.stepped = func(*raftpb.Message) { <-free }
	})
	know(x, y)
	data := make([]byte, 1<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		free <- struct{}{}
		m := x.message(raftpb.MsgApp, y, i)
		m.Entries = []*raftpb.Entry{{Index: &i, Data: data}}
		x.tr.Send([]*raftpb.Message{m})
	}
	for range ahead { // until all have arrived
		free <- struct{}{}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
