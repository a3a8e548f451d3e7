package manager

import (
	"testing"
	"time"

	"skep/api"
	"skep/ca"
	"skep/rpc/raftserver"
	"skep/vfs"
)

// Whoever waits for a manager asks its health; "unknown" would send it away.
func TestTheHealthOfAManagerThatDoesNotRunYetIsKnown(t *testing.T) {
	t.Parallel()
	root, _, err := ca.NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{
		Identity: ca.NewIdentity(root, &ca.Certificate{NodeID: "n1", ClusterID: "c1", Role: api.NodeRole_MANAGER}, nil),
		FS:       vfs.NewMem(), Dir: "raft", RaftKey: [ca.RaftKeySize]byte{1}, Addr: "127.0.0.1:1",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{raftserver.PartRaft, raftserver.PartControlAPI} {
		got, err := m.services.health.Check(t.Context(), &api.HealthCheckRequest{Service: part})
		if err != nil || got.GetStatus() != api.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health of %s is %v, %v; want NOT_SERVING", part, got.GetStatus(), err)
		}
	}
}
