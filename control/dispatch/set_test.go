package dispatch_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"skep/api"
	"skep/control/dispatch"
	"skep/model"
	"skep/store"
)

const node = "node"

// worker is the other end: it applies messages as the contract says.
type worker struct {
	t       failer
	store   *store.Store
	last    string
	tasks   map[string]*api.Task
	secrets map[string]*api.Secret
	configs map[string]*api.Config
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (w *worker) apply(messages []*api.AssignmentsMessage) {
	w.t.Helper()
	for _, m := range messages {
		if size := proto.Size(m); size >= 4<<20 {
			w.t.Fatalf("a message of %d bytes", size)
		}
		if m.GetType() == api.AssignmentsMessage_COMPLETE {
			w.last, w.tasks, w.secrets, w.configs = "", map[string]*api.Task{}, map[string]*api.Secret{}, map[string]*api.Config{}
		} else if len(m.GetChanges()) == 0 {
			w.t.Fatalf("a message that says nothing")
		}
		if m.GetAppliesTo() != w.last {
			w.t.Fatalf("a gap: the message applies to %q, the last one resulted in %q", m.GetAppliesTo(), w.last)
		}
		before, _ := strconv.Atoi(w.last)
		if m.GetResultsIn() != strconv.Itoa(before+1) {
			w.t.Fatalf("the message after %q results in %q", w.last, m.GetResultsIn())
		}
		w.last = m.GetResultsIn()
		var began []*api.Task
		for _, c := range m.GetChanges() {
			update := c.GetAction() == api.AssignmentChange_UPDATE
			switch item := c.GetAssignment().GetItem().(type) {
			case *api.Assignment_Task:
				if !update && !proto.Equal(item.Task, &api.Task{Id: item.Task.GetId()}) {
					w.t.Fatalf("a removal that says more than the ID: %v", item.Task)
				}
				if update && w.tasks[item.Task.GetId()] == nil {
					began = append(began, item.Task)
				}
				put(w.t, w.tasks, item.Task.GetId(), item.Task, update)
			case *api.Assignment_Secret:
				put(w.t, w.secrets, item.Secret.GetId(), item.Secret, update)
			case *api.Assignment_Config:
				put(w.t, w.configs, item.Config.GetId(), item.Config, update)
			}
		}
		w.checkNeeds(began)
	}
}

// checkNeeds holds the worker to: a task that begins has what it needs.
func (w *worker) checkNeeds(began []*api.Task) {
	w.t.Helper()
	for _, task := range began {
		if task.GetStatus().GetState() != api.TaskState_ASSIGNED {
			continue
		}
		for ref := range model.SecretsOf(task.GetSpec()) {
			if _, exists := w.store.Read().Secrets.Get(ref.ID); exists && w.secrets[ref.ID] == nil {
				w.t.Fatalf("task %s came before its secret %s", task.GetId(), ref.ID)
			}
		}
	}
}

func put[T any](t failer, m map[string]*T, id string, v *T, update bool) {
	t.Helper()
	if update {
		m[id] = v
		return
	}
	if m[id] == nil {
		t.Fatalf("%s is taken back, but the worker has none", id)
	}
	delete(m, id)
}

// describe is all that the worker has, but for what it reports itself.
func (w *worker) describe() []string {
	var all []string
	for _, task := range w.tasks {
		all = append(all, describeTask(task))
	}
	for _, secret := range w.secrets {
		all = append(all, fmt.Sprintf("secret %s %v", secret.GetId(), secret.GetSpec()))
	}
	for _, config := range w.configs {
		all = append(all, fmt.Sprintf("config %s %v", config.GetId(), config.GetSpec()))
	}
	slices.Sort(all)
	return all
}

func describeTask(task *api.Task) string {
	return fmt.Sprintf("task %s desired %v slot %d", task.GetId(), task.GetDesiredState(), task.GetSlot())
}

// shouldHave is the same from scratch, by the words of the contract.
func shouldHave(s *store.Snapshot) []string {
	all := map[string]bool{}
	for task := range s.Tasks.All() {
		if task.GetNodeId() != node || task.GetStatus().GetState() < api.TaskState_ASSIGNED {
			continue
		}
		all[describeTask(task)] = true
		if task.GetStatus().GetState() > api.TaskState_RUNNING {
			continue
		}
		for ref := range model.SecretsOf(task.GetSpec()) {
			if secret, ok := s.Secrets.Get(ref.ID); ok {
				all[fmt.Sprintf("secret %s %v", secret.GetId(), secret.GetSpec())] = true
			}
		}
		for ref := range model.ConfigsOf(task.GetSpec()) {
			if config, ok := s.Configs.Get(ref.ID); ok {
				all[fmt.Sprintf("config %s %v", config.GetId(), config.GetSpec())] = true
			}
		}
	}
	var sorted []string
	for s := range all {
		sorted = append(sorted, s)
	}
	slices.Sort(sorted)
	return sorted
}

// TestAWorkerAlwaysHasExactlyWhatItShould runs random histories. Whatever the
// mix of changes, lost changes and new streams, what was sent adds up to the set
// computed from scratch.
func TestAWorkerAlwaysHasExactlyWhatItShould(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := store.NewLocal(store.Config{Freeze: true})
		snapshot, changes := s.Subscribe(1000, store.NodeTasks(node), store.KindKey(store.KindSecret), store.KindKey(store.KindConfig))
		defer changes.Close()
		w := &worker{t: t, store: s}
		set := dispatch.NewSet(node)
		w.apply(set.Complete(snapshot))
		secretID := rapid.SampledFrom([]string{"s1", "s2", "s3"})
		taskID := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("t", rapid.IntRange(0, 7).Draw(t, "task")) })
		write := func(f func(tx *store.Tx) error) {
			if err := s.Update(t.Context(), f); err != nil {
				t.Fatalf("write: %v", err)
			}
		}
		for _, id := range []string{"s1", "s2", "s3"} {
			write(func(tx *store.Tx) error { return tx.Create(secret(id, "first")) })
			write(func(tx *store.Tx) error { return tx.Create(config(id, "first")) })
		}
		edit := func(id string, f func(*api.Task)) {
			write(func(tx *store.Tx) error {
				old, ok := tx.Tasks.Get(id)
				if !ok {
					return nil
				}
				task := model.Shallow(old)
				f(task)
				return tx.Update(task)
			})
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				task := newTask(taskID.Draw(t, "id"), api.TaskState(rapid.SampledFrom([]int32{64, 192, 320, 512, 704}).Draw(t, "state")))
				task.NodeId = rapid.SampledFrom([]string{node, "other"}).Draw(t, "node")
				for _, id := range rapid.SliceOfN(secretID, 0, 3).Draw(t, "secrets") {
					refer(task, id)
				}
				write(func(tx *store.Tx) error {
					if _, ok := tx.Tasks.Get(task.GetId()); ok {
						return nil
					}
					return tx.Create(task)
				})
			},
			"state": func(t *rapid.T) {
				state := api.TaskState(rapid.SampledFrom([]int32{192, 256, 512, 576, 832}).Draw(t, "state"))
				edit(taskID.Draw(t, "id"), func(task *api.Task) { task.Status = &api.TaskStatus{State: state} })
			},
			"desired": func(t *rapid.T) {
				edit(taskID.Draw(t, "id"), func(task *api.Task) { task.DesiredState = api.TaskState_SHUTDOWN })
			},
			"slot": func(t *rapid.T) {
				edit(taskID.Draw(t, "id"), func(task *api.Task) { task.Slot++ })
			},
			"remove": func(t *rapid.T) {
				id := taskID.Draw(t, "id")
				write(func(tx *store.Tx) error {
					if _, ok := tx.Tasks.Get(id); !ok {
						return nil
					}
					return tx.Remove(store.KindTask, id)
				})
			},
			"secret": func(t *rapid.T) {
				id, value := secretID.Draw(t, "id"), rapid.SampledFrom([]string{"", "first", "second"}).Draw(t, "value")
				write(func(tx *store.Tx) error {
					old, ok := tx.Secrets.Get(id)
					switch {
					case ok && value == "":
						return tx.Remove(store.KindSecret, id)
					case ok:
						next := model.Shallow(old)
						next.Spec = secret(id, value).Spec
						return tx.Update(next)
					case value != "":
						return tx.Create(secret(id, value))
					}
					return nil
				})
			},
			"a new stream": func(*rapid.T) {
				snapshot = changes.Resync()
				w.apply(set.Complete(snapshot))
			},
			"changes are lost": func(*rapid.T) {
				snapshot = changes.Resync()
				w.apply(set.Sync(snapshot))
			},
			"": func(t *rapid.T) {
				commits, resync := changes.Take()
				if resync {
					t.Fatalf("the subscription overflowed")
				}
				w.t = t
				w.apply(set.Apply(s.Read(), commits))
				if got, want := w.describe(), shouldHave(s.Read()); !slices.Equal(got, want) {
					t.Fatalf("the worker has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				s.CheckFrozen()
			},
		})
	})
}

func TestStatusAloneIsNotSentAndAnEndedTaskGivesItsSecretBack(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{Freeze: true})
	task := newTask("t", api.TaskState_ASSIGNED)
	refer(task, "s")
	create(t, s, secret("s", "x"), config("s", "y"), task)
	snapshot, changes := s.Subscribe(10, store.NodeTasks(node))
	defer changes.Close()
	set, w := dispatch.NewSet(node), &worker{t: t, store: s}
	w.apply(set.Complete(snapshot))
	for _, state := range []api.TaskState{api.TaskState_ACCEPTED, api.TaskState_RUNNING} {
		report(t, s, "t", state)
		commits, _ := changes.Take()
		if got := set.Apply(s.Read(), commits); len(got) != 0 {
			t.Fatalf("%v was sent back to the node: %v", state, got)
		}
	}
	report(t, s, "t", api.TaskState_FAILED)
	commits, _ := changes.Take()
	got := set.Apply(s.Read(), commits)
	w.apply(got)
	if len(got) != 1 || len(got[0].GetChanges()) != 2 || len(w.secrets)+len(w.configs) != 0 || len(w.tasks) != 1 {
		t.Fatalf("got %v, want secret and config taken back and the task left", got)
	}
}

func TestACompleteThatIsTooLargeKeepsWhatRunsInItsFirstMessage(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	big := strings.Repeat("x", 900<<10)
	for i := range 12 {
		id := fmt.Sprint(i)
		state := api.TaskState_ASSIGNED
		if i%3 == 1 {
			state = api.TaskState_RUNNING
		}
		task := newTask("t"+id, state)
		refer(task, "s"+id)
		create(t, s, secret("s"+id, big), task)
	}
	w, set := &worker{t: t, store: s}, dispatch.NewSet(node)
	messages := set.Complete(s.Read())
	if len(messages) < 3 {
		t.Fatalf("%d messages for 11 MiB", len(messages))
	}
	for i, m := range messages {
		if size := proto.Size(m); i < len(messages)-1 && size < 2<<20 {
			t.Errorf("message %d has %d bytes: an agent takes one of less than 2 MiB for the last", i, size)
		}
		w.apply([]*api.AssignmentsMessage{m})
		for j := 1; j < 12; j += 3 {
			if w.tasks[fmt.Sprint("t", j)] == nil {
				t.Fatalf("task t%d, which runs, is not in message %d and would be torn down", j, i)
			}
		}
	}
	if len(w.tasks) != 12 || len(w.secrets) != 12 {
		t.Fatalf("the worker has %d tasks and %d secrets, want 12 of each", len(w.tasks), len(w.secrets))
	}
}

// TestEveryFieldOfATaskIsCompared keeps a field that is added to the contract
// from being forgotten.
func TestEveryFieldOfATaskIsCompared(t *testing.T) {
	t.Parallel()
	own := map[protoreflect.Name]bool{"status": true, "meta": true, "id": true, "node_id": true}
	fields := (&api.Task{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if own[field.Name()] {
			continue
		}
		t.Run(string(field.Name()), func(t *testing.T) {
			t.Parallel()
			s := store.NewLocal(store.Config{})
			create(t, s, newTask("t", api.TaskState_RUNNING))
			snapshot, changes := s.Subscribe(10, store.NodeTasks(node))
			defer changes.Close()
			set := dispatch.NewSet(node)
			set.Complete(snapshot)
			if _, err := store.Edit(t.Context(), s, "t", nil, func(task *api.Task) error {
				task.Spec = proto.CloneOf(task.GetSpec()) // equal, another object
				m := task.ProtoReflect()
				switch {
				case field.IsList():
					list := m.NewField(field).List()
					list.Append(list.NewElement())
					m.Set(field, protoreflect.ValueOfList(list))
				case field.Message() != nil && field.Name() == "spec":
					task.Spec.ForceUpdate = 7
				case field.Message() != nil:
					m.Set(field, m.NewField(field))
				case field.Kind() == protoreflect.EnumKind:
					m.Set(field, protoreflect.ValueOfEnum(protoreflect.EnumNumber(api.TaskState_REMOVE)))
				case field.Kind() == protoreflect.Uint64Kind:
					m.Set(field, protoreflect.ValueOfUint64(7))
				default:
					m.Set(field, protoreflect.ValueOfString("other"))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			commits, _ := changes.Take()
			if got := set.Apply(s.Read(), commits); len(got) != 1 {
				t.Fatalf("a change of %s sent %d messages, want 1", field.Name(), len(got))
			}
		})
	}
}

func BenchmarkSetApplyStatus(b *testing.B) {
	s := store.NewLocal(store.Config{})
	for i := range 100 {
		create(b, s, newTask(fmt.Sprint("t", i), api.TaskState_RUNNING))
	}
	snapshot, changes := s.Subscribe(10, store.NodeTasks(node))
	defer changes.Close()
	set := dispatch.NewSet(node)
	set.Complete(snapshot)
	report(b, s, "t7", api.TaskState_FAILED)
	commits, _ := changes.Take()
	b.ReportAllocs()
	for b.Loop() {
		set.Apply(s.Read(), commits)
	}
}

func newTask(id string, state api.TaskState) *api.Task {
	return &api.Task{
		Id: id, NodeId: node, ServiceId: "web", Slot: 1, DesiredState: api.TaskState_RUNNING,
		Status: &api.TaskStatus{State: state},
		Spec:   &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "web"}}},
	}
}

func refer(task *api.Task, id string) {
	task.Spec.GetContainer().Secrets = append(task.Spec.GetContainer().Secrets, &api.SecretReference{SecretId: id})
	task.Spec.ResourceReferences = append(task.Spec.ResourceReferences, &api.ResourceReference{ResourceId: id, ResourceType: api.ResourceType_CONFIG})
}

func secret(id, value string) *api.Secret {
	return &api.Secret{Id: id, Spec: &api.SecretSpec{Annotations: &api.Annotations{Name: id}, Data: []byte(value)}}
}

func config(id, value string) *api.Config {
	return &api.Config{Id: id, Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: id}, Data: []byte(value)}}
}

func create(t testing.TB, s *store.Store, objects ...store.Object) {
	t.Helper()
	for _, o := range objects {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.Create(o) }); err != nil {
			t.Fatal(err)
		}
	}
}

func report(t testing.TB, s *store.Store, id string, state api.TaskState) {
	t.Helper()
	if _, err := store.Edit(t.Context(), s, id, nil, func(task *api.Task) error {
		task.Status = model.Shallow(task.GetStatus())
		task.Status.State = state
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
