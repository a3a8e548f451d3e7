package scheduler_test

import (
	"testing"

	"skep/control/allocator"
	"skep/control/orchestrator"
	"skep/control/reaper"
	"skep/control/scheduler"
	"skep/loop"
	"skep/loop/looptest"
)

// loops are all that a task passes, in order.
func loops() []loop.Any {
	return []loop.Any{orchestrator.Loop(), allocator.Loop(), scheduler.Loop(), reaper.Loop()}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	looptest.Run(t, loops)
}
