package controlapi_test

import (
	"testing"

	"skep/api"
	"skep/ca"
	"skep/store"
)

// Each change of the lock and of its key, by what the cluster holds after it.
func TestTheUnlockKeyFollowsTheSpec(t *testing.T) {
	t.Parallel()
	s := newStore(t, `cluster id: "c" spec { annotations { name: "default" } } unlock_keys { subsystem: "other" key: "x" }`)
	server := newServer(s)
	held := func() ca.UnlockKey {
		c, _ := s.Read().Clusters.Get("c")
		key, err := ca.UnlockKeyIn(c)
		if err != nil {
			t.Fatal(err)
		}
		if c.GetUnlockKeys()[0].GetSubsystem() != "other" {
			t.Errorf("the keys of others are gone: %d left", len(c.GetUnlockKeys()))
		}
		return key
	}
	update := func(lock, rotate bool) {
		t.Helper()
		c, _ := store.Get[*api.Cluster](s.Read(), "c")
		_, err := server.UpdateCluster(t.Context(), &api.UpdateClusterRequest{
			ClusterId: "c", ClusterVersion: c.GetMeta().GetVersion(), Rotation: &api.KeyRotation{ManagerUnlockKey: rotate},
			Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}, EncryptionConfig: &api.EncryptionConfig{AutoLockManagers: lock}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	update(true, false)
	first := held()
	if first.IsZero() || len(first.Bytes()) != ca.UnlockKeySize {
		t.Fatal("locking made no key")
	}
	update(true, false)
	if !held().Equal(first) {
		t.Error("an update that leaves the lock alone changed the key")
	}
	update(true, true)
	second := held()
	if second.IsZero() || second.Equal(first) {
		t.Error("rotating made no other key")
	}
	update(false, false)
	if !held().IsZero() {
		t.Error("unlocking left the key")
	}
	update(true, true)
	if third := held(); third.IsZero() || third.Equal(second) || third.Equal(first) {
		t.Error("locking again did not make a new key")
	}
}
