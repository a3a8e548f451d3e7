package reaper_test

import (
	"testing"

	"skep/api"
	"skep/control/allocator"
	"skep/control/orchestrator"
	"skep/control/reaper"
	"skep/control/scheduler"
	"skep/loop"
	"skep/loop/looptest"
	"skep/store"
)

func TestDecisions(t *testing.T) {
	t.Parallel()
	looptest.Run(t, func() []loop.Any {
		return []loop.Any{orchestrator.Loop(), allocator.Loop(), scheduler.Loop(), reaper.Loop()}
	})
}

func TestATaskOfNoServiceGoesWhenItsOutcomeCannotBeKnown(t *testing.T) {
	t.Parallel()
	c := looptest.New(reaper.Loop())
	c.Do(t, func(tx *store.Tx) error {
		for id, state := range map[string]api.TaskState{"running": api.TaskState_RUNNING, "failed": api.TaskState_FAILED, "orphaned": api.TaskState_ORPHANED} {
			if err := tx.Create(&api.Task{Id: id, Status: &api.TaskStatus{State: state}, DesiredState: api.TaskState_RUNNING}); err != nil {
				return err
			}
		}
		return nil
	})
	c.Settle(t)
	s := c.Store.Read()
	if _, ok := s.Tasks.Get("orphaned"); ok || s.Tasks.Len() != 2 {
		t.Errorf("%d tasks are left, the orphaned one among them: %v", s.Tasks.Len(), ok)
	}
}
