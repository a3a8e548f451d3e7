package transport_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"skep/api"
	"skep/raft/transport"
)

// oldStock is a manager that knows ProcessRaftMessage alone.
type oldStock struct {
	api.UnimplementedRaftServer
	mu  sync.Mutex
	got []string
}

func (s *oldStock) ProcessRaftMessage(_ context.Context, r *api.ProcessRaftMessageRequest) (*api.ProcessRaftMessageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, fmt.Sprintf("%d:%d", r.GetMessage().GetFrom(), r.GetMessage().GetIndex()))
	return &api.ProcessRaftMessageResponse{}, nil
}

func stock(m *manager, _ *transport.Config) { m.replication = nil }

func TestAStockManagerGetsACallAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		old := &oldStock{}
		a, b := n.start(t, 1), n.start(t, 2, stock)
		c := n.start(t, 3, stock, func(m *manager, _ *transport.Config) { m.raft = old })
		know(a, b, c)
		time.Sleep(time.Second)
		var want []string
		for i := range uint64(100) {
			a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgApp, b, i), a.message(raftpb.MsgApp, c, i)})
			want = append(want, fmt.Sprintf("1:%d", i))
		}
		synctest.Wait()
		if got := b.messages(); !slices.Equal(got, want) {
			t.Errorf("StreamRaftMessage: got %v", got)
		}
		if !slices.Equal(old.got, want) {
			t.Errorf("ProcessRaftMessage: got %v", old.got)
		}
	})
}

func TestAStockManagerGetsASnapshotInParts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		content := bytes.Repeat([]byte("snapshot"), 1<<20)
		a := n.start(t, 1, func(_ *manager, cfg *transport.Config) {
			cfg.StockSnapshot = func(uint64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		})
		var restored *raftpb.Message
		b := n.start(t, 2, stock, func(m *manager, _ *transport.Config) {
			m.srv.Restore = func(_ context.Context, m *raftpb.Message) error { restored = m; return nil }
		})
		know(a, b)
		time.Sleep(time.Second)
		a.holds(10, 5)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		synctest.Wait()
		if !bytes.Equal(restored.GetSnapshot().GetData(), content) || restored.GetSnapshot().GetMetadata().GetIndex() != 10 {
			t.Errorf("got %d bytes at %d", len(restored.GetSnapshot().GetData()), restored.GetSnapshot().GetMetadata().GetIndex())
		}
		if !slices.Equal(a.reports, []string{"2 true"}) {
			t.Errorf("reports %v", a.reports)
		}
	})
}

func TestAMemberThatAStockManagerRemovedIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, b := n.start(t, 1), n.start(t, 2, stock)
		know(a, b)
		time.Sleep(time.Second)
		b.set(func() { b.removed = []uint64{1}; b.members = nil })
		a.tr.Send([]*raftpb.Message{a.message(raftpb.MsgHeartbeat, b, 9)})
		synctest.Wait()
		if a.gone == 0 {
			t.Error("it was not told")
		}
	})
}
