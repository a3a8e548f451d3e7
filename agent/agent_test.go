package agent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"skep/agent"
	"skep/agent/exec"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/control/dispatch"
	"skep/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAGapIsMendedByOneNewStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &manager{assignments: func(n int, send func(*api.AssignmentsMessage)) error {
			if n == 1 {
				send(complete("1", assign("a")))
				send(incremental("7", "8", withdraw("a"))) // something is missing before it
				return nil
			}
			send(complete("1", assign("a")))
			send(incremental("1", "2", assign("b")))
			return nil
		}}
		machine := machine()
		w := run(t, m, machine, nil)
		defer w.stop()
		pass(time.Minute)
		if m.opened() != 2 || m.sessions() != 1 {
			t.Errorf("%d streams in %d sessions, want 2 in 1", m.opened(), m.sessions())
		}
		if got := machine.Running(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%v run", got)
		}
	})
}

func TestGapsWithoutEndEndTheSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(incremental("7", "8"))
			return nil
		}}
		w := run(t, m, machine(), nil)
		defer w.stop()
		synctest.Wait()
		if m.opened() > 4 {
			t.Errorf("%d streams at once", m.opened())
		}
		pass(time.Minute)
		if m.sessions() < 2 {
			t.Error("the session went on")
		}
	})
}

func TestAnOldManagerSendsListsOfTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		next := make(chan []*api.Task)
		m := &manager{tasks: func(send func(*api.TasksMessage)) error {
			send(&api.TasksMessage{Tasks: []*api.Task{task("a"), task("b")}})
			send(&api.TasksMessage{Tasks: <-next})
			return nil
		}}
		machine := machine()
		w := run(t, m, machine, nil)
		defer w.stop()
		synctest.Wait()
		if got := machine.Running(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%v run", got)
		}
		next <- []*api.Task{task("b")}
		synctest.Wait()
		if got := machine.Running(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("%v run", got)
		}
	})
}

func TestAManagerThatSaysNothingIsLeftAfterFiveSeconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &manager{silent: true}
		w := run(t, m, machine(), nil)
		defer w.stop()
		pass(5*time.Second + 50*time.Millisecond)
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.began) != 2 {
			t.Fatalf("%d sessions were tried", len(m.began))
		}
		if waited := m.began[1].Sub(m.began[0]); waited != 5*time.Second+50*time.Millisecond {
			t.Errorf("the second came after %v", waited)
		}
	})
}

func TestWhatGathersDuringAReportGoesInTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &manager{slow: time.Second, assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a"), assign("b"), assign("c")))
			return nil
		}}
		w := run(t, m, fake.New(fake.Config{Script: func(*api.Task) fake.Script {
			return fake.Script{Preparing: 100 * time.Millisecond, Starting: 100 * time.Millisecond}
		}}), nil)
		defer w.stop()
		pass(time.Minute)
		for id, state := range m.reported() {
			if state != api.TaskState_RUNNING {
				t.Errorf("%s was last reported %v", id, state)
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.reports) > 3 {
			t.Errorf("%d reports, one at a time within 1 s each", len(m.reports))
		}
		if last := m.reports[len(m.reports)-1]; len(last) != 3 {
			t.Errorf("the last report has %d statuses, want the newest of each task", len(last))
		}
	})
}

func TestAReportThatFailsIsSentAgainByTheNextSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &manager{answer: status.Error(codes.Unavailable, "no leader"), assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a")))
			return nil
		}}
		w := run(t, m, machine(), nil)
		defer w.stop()
		pass(time.Second)
		if m.sessions() < 2 {
			t.Fatalf("%d sessions", m.sessions())
		}
		m.mu.Lock()
		m.answer, m.reports = nil, nil
		m.mu.Unlock()
		pass(20 * time.Second)
		if got := m.reported()["a"]; got != api.TaskState_RUNNING {
			t.Errorf("a was reported %v", got)
		}
	})
}

func TestASecondSessionOffersTheIDOfTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &manager{assignments: func(n int, send func(*api.AssignmentsMessage)) error {
			send(complete("1"))
			if n == 1 {
				return status.Error(codes.Aborted, "node must disconnect")
			}
			return nil
		}}
		w := run(t, m, machine(), nil)
		defer w.stop()
		pass(time.Second)
		if m.sessions() != 2 || m.request(0).GetSessionId() != "" || m.request(1).GetSessionId() != "session1" {
			t.Errorf("%d sessions, the last asked for by %v", m.sessions(), m.request(m.sessions()-1))
		}
	})
}

// describing is a machine whose description can change.
type describing struct {
	*fake.Executor
	mu   sync.Mutex
	cpus int64
}

func (d *describing) Describe(context.Context) (*api.NodeDescription, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &api.NodeDescription{Hostname: "h", Resources: &api.Resources{NanoCpus: d.cpus}}, nil
}

func TestADescriptionIsSentAgainWhenItChanges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1"))
			return nil
		}}
		machine := &describing{Executor: machine(), cpus: 1}
		w := run(t, m, machine, nil)
		defer w.stop()
		pass(5 * time.Minute)
		if m.sessions() != 1 {
			t.Fatalf("%d sessions though nothing changed", m.sessions())
		}
		machine.mu.Lock()
		machine.cpus = 2
		machine.mu.Unlock()
		pass(21 * time.Second)
		if m.sessions() != 2 || m.request(1).GetDescription().GetResources().GetNanoCpus() != 2 {
			t.Errorf("%d sessions, the last asked for by %v", m.sessions(), m.request(m.sessions()-1))
		}
		machine.mu.Lock()
		machine.cpus = 3
		machine.mu.Unlock()
		w.Refresh()
		pass(0)
		if m.sessions() != 3 {
			t.Error("Refresh did not look at the description")
		}
	})
}

func TestSecretsOfAnAdoptedTaskMayStillArrive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		with := task("a")
		with.Spec.GetContainer().Secrets = []*api.SecretReference{{SecretId: "s"}}
		storage := &agent.Memory{}
		write(t, storage, nil, []agent.Record{{ID: "a", Task: with, Status: &api.TaskStatus{State: api.TaskState_PREPARING}}})
		ready := make(chan struct{})
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			<-ready
			send(complete("1", change(with), &api.AssignmentChange{Assignment: &api.Assignment{Item: &api.Assignment_Secret{Secret: &api.Secret{Id: "s.a", Spec: &api.SecretSpec{Data: []byte("own")}}}}}))
			return nil
		}}
		machine := &reading{Executor: machine(), secret: "s"}
		w := run(t, m, machine, storage)
		defer w.stop()
		pass(10*time.Second + time.Millisecond)
		if got := machine.Running(); len(got) != 0 {
			t.Fatalf("%v run without their secret", got)
		}
		close(ready)
		synctest.Wait() // and not at the next try
		if got := machine.Running(); len(got) != 1 {
			t.Fatalf("it does not run, reported %v", m.reported())
		}
		if got := machine.got(); got != "own" {
			t.Errorf("it read %q", got)
		}
	})
}

// A set of more than 4 MiB comes in parts: first all that runs or is prepared, then
// what these need.
func TestASecretMayComeInALaterPartOfALargeAssignment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		with := task("a")
		with.Status.State = api.TaskState_PREPARING
		with.Spec.GetContainer().Secrets = []*api.SecretReference{{SecretId: "s"}}
		storage := &agent.Memory{}
		write(t, storage, nil, []agent.Record{{ID: "a", Task: with, Status: with.GetStatus()}})
		managers := store.NewLocal(store.Config{})
		objects := []store.Object{with, &api.Secret{Id: "s", Spec: &api.SecretSpec{Data: []byte("late")}}}
		for i := range 5 {
			running := task(fmt.Sprint("running", i))
			running.Status.State = api.TaskState_RUNNING
			running.Spec.GetContainer().Env = []string{strings.Repeat("x", 900<<10)}
			objects = append(objects, running)
		}
		for _, o := range objects {
			if err := managers.Update(t.Context(), func(tx *store.Tx) error { return tx.Create(o) }); err != nil {
				t.Fatal(err)
			}
		}
		parts := dispatch.NewSet("n").Complete(managers.Read())
		if len(parts) != 2 {
			t.Fatalf("%d parts, want 2", len(parts))
		}
		goOn := make(chan struct{})
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(parts[0])
			<-goOn
			send(parts[1])
			return nil
		}}
		machine := &reading{Executor: machine(), secret: "s"}
		w := run(t, m, machine, storage)
		defer w.stop()
		pass(10*time.Second + time.Millisecond)
		if got := m.reported()["a"]; got != api.TaskState_PREPARING {
			t.Errorf("before its secret it was reported %v", got)
		}
		close(goOn)
		synctest.Wait() // and not at the next try
		if got := machine.got(); got != "late" {
			t.Errorf("it read %q, reported %v", got, m.reported()["a"])
		}
	})
}

// reading is a machine whose tasks read a secret when they are prepared.
type reading struct {
	*fake.Executor
	secret string
	mu     sync.Mutex
	read   string
}

func (r *reading) Controller(task *api.Task, deps exec.Dependencies) (exec.Controller, error) {
	c, err := r.Executor.Controller(task, deps)
	return &readingController{c, r, deps}, err
}

func (r *reading) got() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read
}

type readingController struct {
	exec.Controller
	machine *reading
	deps    exec.Dependencies
}

func (c *readingController) Prepare(ctx context.Context) error {
	secret, err := c.deps.Secret(c.machine.secret)
	if err != nil {
		return err
	}
	c.machine.mu.Lock()
	c.machine.read = string(secret.GetSpec().GetData())
	c.machine.mu.Unlock()
	return c.Controller.Prepare(ctx)
}

func TestASecretThatNobodySendsFailsItsTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		with := task("a")
		with.Spec.GetContainer().Secrets = []*api.SecretReference{{SecretId: "s"}}
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", change(with)))
			return nil
		}}
		w := run(t, m, &reading{Executor: machine(), secret: "s"}, nil)
		defer w.stop()
		pass(time.Minute)
		if got := m.reported()["a"]; got != api.TaskState_REJECTED {
			t.Errorf("it was reported %v", got)
		}
	})
}

// refusing is a machine that can run nothing.
type refusing struct{ *fake.Executor }

func (refusing) Controller(*api.Task, exec.Dependencies) (exec.Controller, error) {
	return nil, errors.New("unsupported runtime")
}

func TestATaskThatAMachineCannotRunIsRejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		removed := make(chan struct{})
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a")))
			<-removed
			send(incremental("1", "2", withdraw("a")))
			return nil
		}}
		storage := &agent.Memory{}
		w := run(t, m, refusing{machine()}, storage)
		defer w.stop()
		pass(time.Second)
		if got := m.reported()["a"]; got != api.TaskState_REJECTED {
			t.Errorf("it was reported %v", got)
		}
		close(removed)
		pass(time.Second)
		if left, _ := storage.Load(); len(left) != 0 {
			t.Errorf("left in the storage: %v", left)
		}
	})
}

func TestWhatWasBeingRemovedIsRemovedAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		machine, storage := machine(), &agent.Memory{}
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a"), assign("b")))
			return nil
		}}
		w := run(t, m, machine, storage)
		pass(time.Second)
		w.stop()
		write(t, storage, nil, []agent.Record{{ID: "a", Gone: true}})
		m.assignments = func(int, func(*api.AssignmentsMessage)) error { return nil } // no word from the managers
		w = run(t, m, machine, storage)
		defer w.stop()
		pass(time.Second)
		if got := machine.Running(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("%v run", got)
		}
		if left, _ := storage.Load(); len(left) != 1 {
			t.Errorf("the storage has %v", left)
		}
	})
}

func TestATaskAssignedAgainWhileItIsRemovedRunsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		machine := fake.New(fake.Config{Script: func(*api.Task) fake.Script { return fake.Script{Stopping: time.Minute} }})
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a")))
			pass := time.After(time.Second)
			<-pass
			send(incremental("1", "2", withdraw("a")))
			send(incremental("2", "3", assign("a")))
			return nil
		}}
		w := run(t, m, machine, nil)
		defer w.stop()
		pass(5 * time.Minute)
		if got := machine.Running(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%v run", got)
		}
	})
}

// broken is a storage whose disk is full.
type broken struct {
	agent.Memory
	mu   sync.Mutex
	full bool
}

func (b *broken) Write(changed []agent.Record, deleted []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return errors.New("no space left on device")
	}
	return b.Memory.Write(changed, deleted)
}

func TestNothingStartsThatIsNotOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		storage := &broken{full: true}
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a")))
			return nil
		}}
		machine := machine()
		w := run(t, m, machine, storage)
		defer w.stop()
		pass(time.Minute)
		if got := machine.Running(); len(got) != 0 {
			t.Errorf("%v run", got)
		}
		storage.mu.Lock()
		storage.full = false
		storage.mu.Unlock()
		pass(10 * time.Second)
		if got := machine.Running(); len(got) != 1 {
			t.Errorf("%v run once there is room", got)
		}
		records, _ := storage.Load()
		if len(records) != 1 || records[0].Status.GetState() != api.TaskState_RUNNING || !proto.Equal(records[0].Task, task("a")) {
			t.Errorf("the storage has %v", records)
		}
	})
}
