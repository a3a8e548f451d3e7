package manager

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/store"
	"skep/vfs"
)

// A hand-over leaves no goroutine, timer or lock behind, and what is as it should be is not written
// again: not a node, not a task, not the cluster.
func TestAManagerLeadsAHundredTimesAndNothingIsLeftOrWritten(t *testing.T) { //nolint:paralleltest // it counts goroutines
	synctest.Test(t, func(t *testing.T) {
		m := ofItself(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.raft.Load().Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("raft ended with %v", err)
			}
		}()
		for term, changed := m.replica.term.get(); term == 0; term, changed = m.replica.term.get() {
			<-changed
		}
		leadOnce(t, m)
		err := m.store.Update(ctx, func(tx *store.Tx) error {
			for i := range 100 {
				if err := populate(tx, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		leadOnce(t, m)
		synctest.Wait()
		goroutines, version := inBubbles(), m.store.Read().Version()
		for range 100 {
			leadOnce(t, m)
		}
		synctest.Wait()
		if now := m.store.Read().Version(); now != version {
			t.Errorf("100 changes of leader wrote %d times", now-version)
		}
		if now := inBubbles(); now != goroutines {
			t.Errorf("%d goroutines have become %d", goroutines, now)
		}
		if serving, _ := m.serving.get(); serving {
			t.Error("it serves though it leads no more")
		}
	})
}

// inBubbles counts the goroutines of bubbles: the runtime has some that come and go.
func inBubbles() int {
	stacks := make([]byte, 4<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("synctest bubble "))
}

// ofItself is a manager that founds a swarm and whose Run is the test's.
func ofItself(t *testing.T) *Manager {
	t.Helper()
	root, key, cert, err := ca.Bootstrap(model.NewID(rand.Reader), model.NewID(rand.Reader), time.Now(), ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	var raftKey [ca.RaftKeySize]byte
	_, _ = rand.Read(raftKey[:]) // never fails
	m, err := New(Config{
		RaftKey:  raftKey,
		Identity: ca.NewIdentity(root, cert, time.Now), FS: vfs.NewMem(), Dir: "raft",
		Addr: "127.0.0.1:4242", Founding: &Founding{RootKey: key},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// leadOnce is one term of two seconds.
func leadOnce(t *testing.T, m *Manager) {
	t.Helper()
	lost, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- m.lead(t.Context(), lost) }()
	if err := m.AwaitServing(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * time.Second)
	close(lost)
	if err := <-ended; err == nil {
		t.Error("it goes on to lead")
	}
}

// populate adds a node with a task that runs.
func populate(tx *store.Tx, i int) error {
	node, task, service := fmt.Sprintf("n%d", i), fmt.Sprintf("t%d", i), fmt.Sprintf("s%d", i)
	if err := tx.Create(&api.Node{
		Id: node, Status: &api.NodeStatus{State: api.NodeStatus_READY}, Description: &api.NodeDescription{Hostname: node},
		Spec: &api.NodeSpec{Membership: api.NodeSpec_ACCEPTED},
	}); err != nil {
		return err
	}
	spec := api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "web"}}}
	if err := tx.Create(&api.Service{Id: service, Spec: &api.ServiceSpec{
		Annotations: &api.Annotations{Name: service}, Task: &spec,
		Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: 1}},
	}}); err != nil {
		return err
	}
	return tx.Create(&api.Task{
		Id: task, ServiceId: service, Slot: 1, NodeId: node, Spec: &spec, DesiredState: api.TaskState_RUNNING,
		ServiceAnnotations: &api.Annotations{Name: service},
		Status:             &api.TaskStatus{State: api.TaskState_RUNNING},
	})
}
