package agent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"skep/agent"
	"skep/agent/exec/fake"
	"skep/api"
)

func TestStoppedTasksAreReportedAndStillKnownAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		machine := fake.New(fake.Config{Script: func(*api.Task) fake.Script { return fake.Script{Stopping: time.Second} }})
		storage := &agent.Memory{}
		m := &manager{slow: 100 * time.Millisecond, assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a"), assign("b")))
			return nil
		}}
		w := run(t, m, machine, storage)
		pass(10 * time.Second)
		if err := w.StopTasks(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b"} {
			if got := m.reported()[id]; got != api.TaskState_SHUTDOWN {
				t.Errorf("%s was reported %v when StopTasks returned, want SHUTDOWN", id, got)
			}
		}
		w.stop()
		w = run(t, m, machine, storage)
		defer w.stop()
		pass(time.Minute)
		if got := machine.Running(); len(got) != 0 {
			t.Errorf("%v run again", got)
		}
		if got := m.reported()["a"]; got != api.TaskState_SHUTDOWN {
			t.Errorf("after the restart a was reported %v, want SHUTDOWN", got)
		}
	})
}

func TestATaskThatDoesNotStopInTimeIsTerminated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		machine := fake.New(fake.Config{Script: func(*api.Task) fake.Script { return fake.Script{Stopping: time.Hour} }})
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("a")))
			return nil
		}}
		w := run(t, m, machine, nil)
		defer w.stop()
		pass(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.StopTasks(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := machine.Running(); len(got) != 0 {
			t.Errorf("%v still run", got)
		}
	})
}
