package dispatcher_test

import (
	"context"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"skep/agent"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/rpc"
	"skep/store"
)

// TestTheWholeLifeOfATaskOverGRPC is the protocol once over the real server and
// its interceptors, on a unix socket, with the agent's state in a file.
func TestTheWholeLifeOfATaskOverGRPC(t *testing.T) {
	t.Parallel()
	s, d := benchmarked(t, 1, 0)
	server, err := rpc.NewServer(rpc.Config{
		Credentials: rpc.LocalCredentials(nil),
		Local:       func() rpc.Identity { return rpc.Identity{NodeID: "n0", Addr: "127.0.0.1:2377"} },
	}, func(r grpc.ServiceRegistrar) { api.RegisterDispatcherServer(r, d) })
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s.sock")
	listener, err := rpc.ListenLocal(socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	storage, err := agent.OpenBolt(filepath.Join(t.TempDir(), "worker", "tasks.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	machine := fake.New(fake.Config{})
	a, err := agent.New(agent.Config{
		NodeID: "n0", Executor: machine, Storage: storage,
		Connect: func(context.Context) (grpc.ClientConnInterface, func(error), error) {
			conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, nil, err
			}
			return conn, func(error) { conn.Close() }, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- a.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()

	_, changes := s.Subscribe(1000, store.NodeTasks("n0"))
	defer changes.Close()
	reaches := func(want api.TaskState) {
		t.Helper()
		for {
			if task, _ := s.Read().Tasks.Get("t"); task.GetStatus().GetState() == want {
				return
			}
			select {
			case <-changes.Ready():
				changes.Take()
			case <-t.Context().Done():
				t.Fatal("it never ended")
			}
		}
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.Create(task("t", "n0")) }); err != nil {
		t.Fatal(err)
	}
	reaches(api.TaskState_RUNNING)
	if _, err := store.Edit(t.Context(), s, "t", nil, func(task *api.Task) error {
		task.DesiredState = api.TaskState_SHUTDOWN
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	reaches(api.TaskState_SHUTDOWN)
}
