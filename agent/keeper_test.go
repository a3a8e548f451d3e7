package agent_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"skep/agent"
	"skep/agent/exec/fake"
	"skep/api"
)

// keeper is a machine that can say which tasks it still has.
type keeper struct{ *fake.Executor }

func (k keeper) Tasks() ([]string, error) { return k.Running(), nil }

func (k keeper) Remove(_ context.Context, id string) error {
	k.End(id, 137)
	return nil
}

func TestTasksThatNobodyKnowsAreRemovedBeforeTheFirstSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		machine := keeper{fake.New(fake.Config{})}
		m := &manager{assignments: func(_ int, send func(*api.AssignmentsMessage)) error {
			send(complete("1", assign("known"), assign("lost")))
			return nil
		}}
		storage := &agent.Memory{}
		w := run(t, m, machine, storage)
		pass(time.Second)
		w.stop()
		if err := storage.Write(nil, []string{"lost"}); err != nil {
			t.Fatal(err)
		}
		m.assignments = func(int, func(*api.AssignmentsMessage)) error { return nil } // no word from the managers
		w = run(t, m, machine, storage)
		defer w.stop()
		pass(time.Second)
		if got := machine.Running(); !slices.Equal(got, []string{"known"}) {
			t.Errorf("%v run, want the task that the storage knows", got)
		}
	})
}
