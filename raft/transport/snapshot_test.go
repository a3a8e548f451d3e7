package transport_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"

	"skep/api/skep"
	"skep/raft/transport"
	"skep/rpc/raftserver"
)

// TestASnapshotThatIsInterruptedFiveTimesGoesOn is fault 34 in small.
func TestASnapshotThatIsInterruptedFiveTimesGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.set(func() { n.rate = 10 << 20 / 8 }) // 10 Mbit/s
		const size = 8 << 20
		data := a.holds(10, size)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		for range 5 {
			time.Sleep(time.Second)
			n.cut("host2")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(b.whole) != 1 || !bytes.Equal(b.whole[0], data) {
			t.Fatalf("%d snapshots", len(b.whole))
		}
		if b.received != size {
			t.Errorf("%d bytes were taken, want each of %d once", b.received, size)
		}
		// What was under way is sent again: the window, and what the link held.
		if most := size + size/50 + 6*(600<<10); n.carried > most {
			t.Errorf("%d bytes were sent, want at most %d", n.carried, most)
		}
		if a.opened != 1 || !slices.Equal(a.reports, []string{"2 true"}) {
			t.Errorf("opened %d times, reports %v", a.opened, a.reports)
		}
	})
}

// tampering changes what a stream brings.
type tampering struct {
	skep.ReplicationServer
	change func(*skep.SnapshotRequest)
}

type tampered struct {
	grpc.BidiStreamingServer[skep.SnapshotRequest, skep.SnapshotResponse]
	change func(*skep.SnapshotRequest)
}

func (t tampering) Snapshot(s grpc.BidiStreamingServer[skep.SnapshotRequest, skep.SnapshotResponse]) error {
	return t.ReplicationServer.Snapshot(tampered{s, t.change})
}

func (t tampered) Recv() (*skep.SnapshotRequest, error) {
	r, err := t.BidiStreamingServer.Recv()
	if err == nil {
		t.change(r)
	}
	return r, err
}

func TestWhatOfASnapshotArrivesDamagedIsSentAgain(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	tests := map[string]struct {
		damage   func(r *skep.SnapshotRequest) bool // reports whether it did
		received int
	}{
		"a chunk": {func(r *skep.SnapshotRequest) bool {
			if c := r.GetChunk(); c.GetOffset() == 1<<20 {
				c.Data[5] ^= 1
				return true
			}
			return false
		}, size},
		"the whole": {func(r *skep.SnapshotRequest) bool {
			if e := r.GetEnd(); e != nil {
				e.Crc++
				return true
			}
			return false
		}, 2 * size},
		"its length": {func(r *skep.SnapshotRequest) bool {
			if e := r.GetEnd(); e != nil {
				e.Size--
				return true
			}
			return false
		}, 2 * size},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				damaged := 0
				a, b := n.start(t, 1), n.start(t, 2, func(m *manager, _ *transport.Config) {
					inner := &raftserver.Replication{Raft: m.srv}
					m.replication = tampering{inner, func(r *skep.SnapshotRequest) {
						if damaged == 0 && test.damage(r) {
							damaged++
						}
					}}
				})
				know(a, b)
				synctest.Wait()
				data := a.holds(10, size)
				a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if damaged != 1 || len(b.whole) != 1 || !bytes.Equal(b.whole[0], data) || b.received != test.received {
					t.Errorf("damaged %d times, %d snapshots, %d bytes taken, want %d", damaged, len(b.whole), b.received, test.received)
				}
			})
		})
	}
}

func TestASnapshotIsGivenUpWhenItsTermIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.set(func() { n.rate = 128 << 10 })
		a.holds(10, 4<<20)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		time.Sleep(time.Second)
		later := a.message(raftpb.MsgAppResp, b, 1)
		later.Term = new(uint64(2))
		a.tr.Send([]*raftpb.Message{later})
		time.Sleep(time.Second)
		synctest.Wait()
		before := b.received
		time.Sleep(time.Minute)
		synctest.Wait()
		if before == 0 || b.received != before || len(a.reports) > 0 {
			t.Errorf("%d bytes before, %d after, reports %v", before, b.received, a.reports)
		}
	})
}

func TestASnapshotInANewTermGoesOnWhereTheOldOneWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.set(func() { n.rate = 1 << 20 })
		const size = 4 << 20
		data := a.holds(10, size)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		time.Sleep(time.Second)
		again := a.snapshotMessage(b, 9)
		again.Term = new(uint64(3))
		a.tr.Send([]*raftpb.Message{again})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(b.whole) != 1 || !bytes.Equal(b.whole[0], data) || b.received != size {
			t.Fatalf("%d snapshots, %d bytes taken", len(b.whole), b.received)
		}
		if last := b.got[len(b.got)-1]; last.GetTerm() != 3 || last.GetSnapshot().GetMetadata().GetIndex() != 10 {
			t.Errorf("raft got %v", last)
		}
	})
}

func TestASnapshotThatCannotBeOpenedOrSentIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		synctest.Wait()
		if !slices.Equal(a.reports, []string{"2 false"}) {
			t.Errorf("without a snapshot: %v", a.reports)
		}
		a.holds(10, 1<<20)
		b.stopped()
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(a.reports, []string{"2 false", "2 false"}) || n.dials["host2"] == 0 {
			t.Errorf("without a receiver: %v", a.reports)
		}
	})
}

// A connection that fell silent is known to be over at one end only: the receiver has the old
// stream still when the new one comes.
func TestASnapshotGoesOnBesideAStreamThatFellSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.set(func() { n.rate = 1 << 20 })
		const size = 4 << 20
		data := a.holds(10, size)
		a.tr.Send([]*raftpb.Message{a.snapshotMessage(b, 9)})
		time.Sleep(time.Second)
		n.set(func() { n.dead["host2"] = true })
		time.Sleep(15 * time.Second)
		n.set(func() { n.dead["host2"] = false })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if len(b.whole) != 1 || !bytes.Equal(b.whole[0], data) || b.received != size {
			t.Errorf("%d snapshots, %d bytes taken, want %d", len(b.whole), b.received, size)
		}
	})
}
