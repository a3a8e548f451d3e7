package manager_test

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/api"
	"skep/ca"
	"skep/manager"
	"skep/model"
	"skep/store"
	"skep/vfs"
)

// founder is the configuration of the first manager of a new swarm.
func founder(t testing.TB) manager.Config {
	t.Helper()
	root, key, cert, err := ca.Bootstrap(model.NewID(rand.Reader), model.NewID(rand.Reader), time.Now(), ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	var raftKey [ca.RaftKeySize]byte
	if _, err := rand.Read(raftKey[:]); err != nil {
		t.Fatal(err)
	}
	return manager.Config{
		Identity: ca.NewIdentity(root, cert, time.Now),
		RaftKey:  raftKey,
		FS:       vfs.NewMem(), Dir: "raft",
		Addr:     "127.0.0.1:4242",
		Founding: &manager.Founding{RootKey: key},
	}
}

// lead runs a manager until it leads. stop ends it.
func lead(t testing.TB, cfg manager.Config) (m *manager.Manager, stop func()) {
	t.Helper()
	m, err := manager.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	stop = func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ends with %v", err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	limit, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	if err := m.AwaitServing(limit); err != nil {
		t.Fatalf("it does not lead: %v", err)
	}
	return m, stop
}

// cluster is the one cluster of a manager's store.
func cluster(t *testing.T, m *manager.Manager) *api.Cluster {
	t.Helper()
	clusters := slices.Collect(m.Store().Read().Clusters.All())
	if len(clusters) != 1 {
		t.Fatalf("there are %d clusters, want one", len(clusters))
	}
	return clusters[0]
}

func TestTheFirstLeaderFoundsTheSwarm(t *testing.T) {
	t.Parallel()
	cfg := founder(t)
	m, stop := lead(t, cfg)
	if !m.Founded() || !m.Leading() {
		t.Errorf("founded %t, leading %t; want both", m.Founded(), m.Leading())
	}
	c := cluster(t, m)
	if c.Id != cfg.Identity.ClusterID() || string(c.GetRootCa().GetCaKey()) != string(cfg.Founding.RootKey) {
		t.Errorf("the cluster is %s, want %s with the founder's key", c.Id, cfg.Identity.ClusterID())
	}
	tokens := c.GetRootCa().GetJoinTokens()
	if tokens.GetWorker() == tokens.GetManager() || tokens.GetWorker() == "" {
		t.Error("the join tokens of workers and managers are not two")
	}
	n, ok := m.Store().Read().Nodes.Get(cfg.Identity.NodeID())
	if !ok || n.Role != api.NodeRole_MANAGER || n.GetSpec().GetMembership() != api.NodeSpec_ACCEPTED {
		t.Errorf("its own node is %v", n)
	}
	stop()
	if m.Leading() {
		t.Error("it leads after it has ended")
	}
}

func TestWhatGoesWrongWhenAManagerStopsIsItsError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := founder(t)
		disk := vfs.NewMem()
		cfg.FS = disk
		m, err := manager.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		if err := m.AwaitServing(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		disk.Inject(vfs.Rule{Op: vfs.OpSync, Name: "*.log", Delay: time.Second, Err: syscall.EIO})
		if _, err := m.Store().Propose(func(tx *store.Tx) error {
			return tx.Create(&api.Config{Id: "lost", Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: "lost"}}})
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, syscall.EIO) || errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v, want that its log could not be written and nothing else", err)
		}
	})
}

// The root's key is on disk until the cluster object is, so a founder may come
// back with it.
func TestASwarmIsFoundedOnce(t *testing.T) {
	t.Parallel()
	cfg := founder(t)
	m, stop := lead(t, cfg)
	first := cluster(t, m)
	stop()
	m, _ = lead(t, cfg)
	if again := cluster(t, m); again.GetRootCa().GetJoinTokens().GetWorker() != first.GetRootCa().GetJoinTokens().GetWorker() {
		t.Error("the second start made other join tokens")
	}
}

func TestWhatWasAnsweredOutlivesAPowerCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		cfg := founder(t)
		disk := vfs.NewMem()
		cfg.FS = disk
		m, stop := lead(t, cfg)
		err := m.Store().Update(t.Context(), func(tx *store.Tx) error {
			return tx.Create(&api.Config{Id: "kept", Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: "kept"}, Data: []byte("x")}})
		})
		if err != nil {
			t.Fatal(err)
		}
		cfg.FS = disk.Crash(mathrand.New(mathrand.NewPCG(seed, 0)))
		stop()
		cfg.Founding = nil
		m, stop = lead(t, cfg)
		if _, ok := m.Store().Read().Configs.Get("kept"); !ok {
			t.Errorf("seed %d: the config is lost", seed)
		}
		stop()
	}
}

func TestALogThatWasEmptiedIsNoNewSwarm(t *testing.T) {
	t.Parallel()
	cfg := founder(t)
	cfg.Founding = nil
	m, err := manager.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = m.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "has no log of the swarm") || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("it ends with %v", err)
	}
}

// Fault 10 of the reliability promises.
func TestAManagerWhoseDiskIsFullSaysSoAnswersReadsAndGoesOnWhenThereIsSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := founder(t)
		disk := vfs.NewMem()
		cfg.FS = disk
		m, stop := lead(t, cfg)
		disk.SetCapacity(1)
		create := func(name string) func(*store.Tx) error {
			return func(tx *store.Tx) error {
				return tx.Create(&api.Config{Id: name, Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: name}, Data: make([]byte, 1<<20)}})
			}
		}
		var under []*store.Pending
		for _, name := range []string{"first", "second"} { // what is written ahead may take one
			p, err := m.Store().Propose(create(name))
			if err != nil {
				t.Fatal(err)
			}
			under = append(under, p)
		}
		time.Sleep(time.Minute)
		if !m.Leading() {
			t.Error("the only manager does not lead any more")
		}
		err := m.Store().Update(t.Context(), create("third"))
		if model.KindOf(err) != model.Unavailable || !strings.Contains(err.Error(), "bytes must be free") || !strings.Contains(err.Error(), "in raft") {
			t.Errorf("a write to a full disk ended with %v; want the directory and what space it needs", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := m.Leadership().ReadBarrier(ctx); err != nil {
			t.Errorf("it answers no reads: %v", err)
		}
		disk.SetCapacity(0)
		for _, p := range under {
			if err := p.Wait(t.Context()); err != nil {
				t.Errorf("what was under way when the disk was full ended with %v", err)
			}
		}
		if err := m.Store().Update(t.Context(), create("third")); err != nil {
			t.Errorf("with space again a write ended with %v", err)
		}
		stop()
		cfg.Founding = nil
		m, stop = lead(t, cfg)
		if n := m.Store().Read().Configs.Len(); n != 3 {
			t.Errorf("after the next start there are %d configs, want 3", n)
		}
		stop()
	})
}

// registrar notes the names of services.
type registrar map[string]bool

func (r registrar) RegisterService(d *grpc.ServiceDesc, _ any) { r[d.ServiceName] = true }

func TestEveryServiceOfTheContractIsOffered(t *testing.T) {
	t.Parallel()
	m, err := manager.New(founder(t))
	if err != nil {
		t.Fatal(err)
	}
	remote, local := registrar{}, registrar{}
	m.Register(remote)
	m.RegisterLocal(local)
	between := map[string]bool{"docker.swarmkit.v1.Raft": true, "docker.swarmkit.v1.RaftMembership": true}
	for _, file := range []protoreflect.FileDescriptor{
		api.File_api_ca_proto, api.File_api_control_proto, api.File_api_dispatcher_proto, api.File_api_health_proto,
		api.File_api_logbroker_proto, api.File_api_raft_proto, api.File_api_resource_proto, api.File_api_watch_proto,
	} {
		for i := range file.Services().Len() {
			name := string(file.Services().Get(i).FullName())
			if !remote[name] {
				t.Errorf("%s is not offered to other nodes", name)
			}
			if local[name] == between[name] {
				t.Errorf("%s is offered on the socket: %t, want %t", name, local[name], !between[name])
			}
		}
	}
	if !remote["skep.v1.Replication"] || !remote["skep.v1.Insight"] || !remote["skep.v1.Recovery"] || len(remote) != 14 {
		t.Errorf("%v are offered, want the 11 of the contract, Insight, Recovery and Replication", slices.Sorted(maps.Keys(remote)))
	}
}
