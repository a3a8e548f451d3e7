package orchestrator_test

import (
	"testing"

	"skep/control/orchestrator"
	"skep/loop"
	"skep/loop/looptest"
)

func TestDecisions(t *testing.T) {
	t.Parallel()
	looptest.Run(t, func() []loop.Any { return []loop.Any{orchestrator.Loop()} })
}
