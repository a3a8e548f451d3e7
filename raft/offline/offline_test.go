package offline_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/synctest"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"skep/api"
	"skep/api/skep"
	"skep/raft"
	"skep/raft/offline"
	"skep/raft/seal"
	"skep/store"
	"skep/vfs"
	"skep/vfs/vfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replica is a store as raft's state machine; it says when it leads.
type replica struct {
	*store.Store
	leads chan struct{}
}

func (r replica) Apply(entries []raft.Entry) error {
	for _, e := range entries {
		if err := r.Store.Apply(store.Entry{Index: e.Index, Term: e.Term, Data: e.Data}); err != nil {
			return err
		}
	}
	return nil
}

func (r replica) Lead(term uint64) {
	r.Store.Lead(term)
	close(r.leads)
}

func (r replica) Snapshot() (raft.Snapshot, error) { return r.Read(), nil }

func key() [32]byte { return [32]byte{1, 2, 3} }

// write runs a manager's raft on fsys, writes n services and secrets, and stops it.
func write(t *testing.T, fsys vfs.FS, n int, snapshotEntries uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := replica{store.New(store.Config{}), make(chan struct{})}
		node, err := raft.New(raft.Config{
			FS: fsys, Dir: "raft", Key: key(), NodeID: "manager", Addr: "10.0.0.1:2377", StateMachine: r,
			SnapshotEntries: snapshotEntries, KeepEntries: 2, SegmentBytes: 4096,
		})
		if err != nil {
			t.Fatal(err)
		}
		r.SetLog(node)
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx) }()
		<-r.leads
		for i := range n {
			err := r.Update(t.Context(), func(tx *store.Tx) error {
				return errors.Join(tx.Create(service(i)), tx.Create(&api.Secret{
					Id: fmt.Sprintf("x%03d", i),
					Spec: &api.SecretSpec{
						Annotations: &api.Annotations{Name: fmt.Sprintf("password%d", i)}, Data: []byte("hunter2"),
					},
				}))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

func service(i int) *api.Service {
	return &api.Service{
		Id: fmt.Sprintf("s%03d", i),
		Spec: &api.ServiceSpec{
			Annotations: &api.Annotations{Name: fmt.Sprintf("web%d", i)},
			Task: &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{
				Image: "nginx", Env: []string{"PASSWORD=hunter2"},
			}}},
		},
	}
}

// files is the content of all files below raft/.
func files(t *testing.T, fsys vfs.FS) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"raft/log", "raft/snapshots"} {
		names, err := fsys.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			out[path.Join(dir, name)] = string(vfstest.ReadFile(t, fsys, path.Join(dir, name)))
		}
	}
	return out
}

func TestLogAndSnapshotsAreReadAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	write(t, m, 40, 10)
	before := files(t, m)
	m.Trace(func(op vfs.Op, name string) {
		if op != vfs.OpOpen && op != vfs.OpRead {
			t.Errorf("%s of %s", op, name)
		}
	})
	d := offline.Open(m, "raft", key())
	found, err := d.Log()
	if err != nil {
		t.Fatal(err)
	}
	indexes, err := d.Snapshots()
	if err != nil || len(indexes) == 0 {
		t.Fatalf("snapshots %v, %v", indexes, err)
	}
	newest := indexes[0]
	meta, state, err := d.Snapshot(newest)
	if err != nil {
		t.Fatal(err)
	}
	m.Trace(nil)
	if after := files(t, m); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the files have changed")
	}
	// Entry 1 adds the manager, entry 2 begins its term.
	if meta.Index != newest || meta.Owner != "manager" || len(meta.Members) != 1 || uint64(state.Services.Len()) != newest-2 {
		t.Errorf("the snapshot at %d has %d services, and is %+v", newest, state.Services.Len(), meta)
	}
	if found.Owner != "manager" || found.LastIndex != 42 || len(found.Segments) < 2 || found.Cut != nil {
		t.Errorf("the log has %d segments, ends with %d, is of %q, cut %v", len(found.Segments), found.LastIndex, found.Owner, found.Cut)
	}
	if first := found.Entries[0].GetIndex(); first != found.BeforeIndex+1 || first > newest {
		t.Errorf("the log begins with %d after %d; the snapshot is at %d", first, found.BeforeIndex, newest)
	}
}

func TestAFlippedBitIsNamedWithFileAndOffset(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	write(t, m, 12, 1000)
	whole, err := offline.Open(m, "raft", key()).Log()
	if err != nil {
		t.Fatal(err)
	}
	for _, segment := range whole.Segments {
		good := vfstest.ReadFile(t, m, segment.File)
		for at := int64(0); at < segment.Bytes; at += 211 {
			image := m.Copy()
			bad := append([]byte(nil), good...)
			bad[at] ^= 0x10
			vfstest.WriteFile(t, image, segment.File, bad)
			found, err := offline.Open(image, "raft", key()).Log()
			var damage *seal.DamageError
			if !errors.As(err, &damage) || damage.File != segment.File || damage.Offset > at {
				t.Errorf("a bit at %d of %s: %v", at, segment.File, err)
				continue
			}
			for i, e := range found.Entries {
				if !proto.Equal(e, whole.Entries[i]) {
					t.Errorf("a bit at %d of %s: entry %d is another one", at, segment.File, e.GetIndex())
				}
			}
		}
	}
}

func TestADamagedSnapshotIsNamedWithFileAndOffset(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	write(t, m, 12, 5)
	d := offline.Open(m, "raft", key())
	indexes, err := d.Snapshots()
	if err != nil || len(indexes) == 0 {
		t.Fatalf("snapshots %v, %v", indexes, err)
	}
	file := d.SnapshotFile(indexes[0])
	bad := vfstest.ReadFile(t, m, file)
	at := int64(len(bad) - 40)
	bad[at] ^= 1
	vfstest.WriteFile(t, m, file, bad)
	var damage *seal.DamageError
	if _, _, err := d.Snapshot(indexes[0]); !errors.As(err, &damage) || damage.File != file || damage.Offset == 0 || damage.Offset > at {
		t.Errorf("a bit at %d of %s: %v", at, file, err)
	}
	// The log still reaches back to the one before it.
	if _, err := d.Log(); err != nil {
		t.Error(err)
	}
}

func TestATornTailIsToldAndNoDamage(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	write(t, m, 3, 1000)
	whole, err := offline.Open(m, "raft", key()).Log()
	if err != nil {
		t.Fatal(err)
	}
	last := whole.Segments[len(whole.Segments)-1]
	content := vfstest.ReadFile(t, m, last.File)[:last.Bytes-20]
	vfstest.WriteFile(t, m, last.File, content)
	found, err := offline.Open(m, "raft", key()).Log()
	if err != nil {
		t.Fatal(err)
	}
	if found.Cut == nil || found.Cut.File != last.File || found.Cut.Offset >= int64(len(content)) {
		t.Errorf("the cut is %+v", found.Cut)
	}
	if found.LastIndex != whole.LastIndex-1 && found.LastIndex != whole.LastIndex {
		t.Errorf("it ends with %d, the whole one with %d", found.LastIndex, whole.LastIndex)
	}
	if got := string(vfstest.ReadFile(t, m, last.File)); got != string(content) {
		t.Error("the tail was cut off")
	}
}

func TestASegmentThatIsNeededIsMissedAndOneThatIsNotIsToldApart(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	write(t, m, 60, 1000)
	whole, err := offline.Open(m, "raft", key()).Log()
	if err != nil || len(whole.Segments) < 3 {
		t.Fatalf("%d segments, %v", len(whole.Segments), err)
	}
	second := whole.Segments[1].File
	vfstest.WriteFile(t, m, "raft/log/0000000000000063.log.tmp", []byte("half"))
	found, err := offline.Open(m, "raft", key()).Log()
	if err != nil || len(found.Unused) != 1 || found.LastIndex != whole.LastIndex {
		t.Errorf("with an unfinished segment: unused %q, ends with %d, %v", found.Unused, found.LastIndex, err)
	}
	if err := m.Remove(second); err != nil {
		t.Fatal(err)
	}
	var damage *seal.DamageError
	if _, err := offline.Open(m, "raft", key()).Log(); !errors.As(err, &damage) || damage.File != second {
		t.Errorf("without %s: %v", second, err)
	}
}

func TestAnotherKeyIsNoDamageOfOneRecord(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	write(t, m, 3, 1000)
	if _, err := offline.Open(m, "raft", [32]byte{9}).Log(); !errors.Is(err, seal.ErrKey) {
		t.Errorf("got %v, want %v", err, seal.ErrKey)
	}
	found, err := offline.Open(m, "raft", [32]byte{9}, key()).Log()
	if err != nil || !found.Segments[0].OldKey {
		t.Errorf("with the old key beside the new one: %+v, %v", found.Segments, err)
	}
}

func TestWithoutALogTheDirectoryIsNoManagers(t *testing.T) {
	t.Parallel()
	found, err := offline.Open(vfs.NewMem(), "raft", key()).Log()
	if err == nil || !strings.Contains(err.Error(), "no raft log in raft/log") {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestWhatIsDumpedHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	write(t, m, 12, 5)
	d := offline.Open(m, "raft", key())
	found, err := d.Log()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range found.Entries {
		said, err := offline.Decode(e)
		if err != nil {
			t.Fatal(err)
		}
		if said.Request != nil {
			fmt.Fprintln(&out, prototext.Format(said.Request))
		}
	}
	indexes, err := d.Snapshots()
	if err != nil {
		t.Fatal(err)
	}
	_, state, err := d.Snapshot(indexes[0])
	if err != nil {
		t.Fatal(err)
	}
	for o := range offline.Objects(state) {
		fmt.Fprintln(&out, prototext.Format(o))
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Error("a secret is shown")
	}
	for _, want := range []string{"password1", "web1", "PASSWORD=[redacted]"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is missing", want)
		}
	}
	if s, ok := state.Secrets.Get("x000"); !ok || string(s.GetSpec().GetData()) != "hunter2" {
		t.Error("the state itself was changed")
	}
}

func TestRedactLeavesNoSecretInAnyKindOfObject(t *testing.T) {
	t.Parallel()
	const hidden = "TOPSECRET"
	env := []string{"A=" + hidden, hidden}
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	options := map[string]string{"token": hidden}
	for _, m := range []proto.Message{
		&api.SecretSpec{Data: []byte(hidden), Driver: &api.Driver{Name: "vault", Options: options}},
		&api.ConfigSpec{Data: []byte(hidden)},
		&api.ContainerSpec{Env: env, PullOptions: &api.ContainerSpec_PullOptions{RegistryAuth: hidden}},
		&skep.ProcessSpec{Env: env},
		&api.TaskSpec{Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Payload: pack(&skep.ProcessSpec{Env: env})}}},
		&api.Resource{Payload: &anypb.Any{TypeUrl: "example.com/Unknown", Value: []byte(hidden)}},
		&api.RootCA{
			CaKey: []byte(hidden), RootRotation: &api.RootRotation{CaKey: []byte(hidden)},
			JoinTokens: &api.JoinTokens{Worker: hidden, Manager: hidden},
		},
		&api.CAConfig{SigningCaKey: []byte(hidden), ExternalCas: []*api.ExternalCA{{Options: options}}},
		&api.Cluster{
			NetworkBootstrapKeys: []*api.EncryptionKey{{Key: []byte(hidden)}}, UnlockKeys: []*api.EncryptionKey{{Key: []byte(hidden)}},
		},
		&api.InternalRaftRequest{Action: []*api.StoreAction{{Target: &api.StoreAction_Secret{
			Secret: &api.Secret{Spec: &api.SecretSpec{Data: []byte(hidden)}},
		}}}},
	} {
		offline.Redact(m)
		text, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), hidden) {
			t.Errorf("%s: %s", m.ProtoReflect().Descriptor().FullName(), prototext.Format(m))
		}
	}
}

func TestAnEntryThatCannotBeDecodedIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*raftpb.Entry{
		"no transaction": {Index: new(uint64(7)), Type: raftpb.EntryNormal.Enum(), Data: []byte{0xff}},
		"no change":      {Index: new(uint64(7)), Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff}},
		"joint change":   {Index: new(uint64(7)), Type: raftpb.EntryConfChangeV2.Enum()},
	} {
		if _, err := offline.Decode(e); err == nil || !strings.Contains(err.Error(), "entry 7") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if said, err := offline.Decode(&raftpb.Entry{Index: new(uint64(7))}); err != nil || said != (offline.Entry{}) {
		t.Errorf("an empty entry: %+v, %v", said, err)
	}
}
