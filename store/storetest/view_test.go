package storetest_test

import (
	"testing"

	"skep/api"
	"skep/store"
	"skep/store/storetest"
)

// running counts the running tasks of each node.
type running map[string]int

func (r running) Build(s *store.Snapshot) {
	clear(r)
	for t := range s.Tasks.All() {
		r.count(t, 1)
	}
}

func (r running) Apply(c store.Change) {
	if was, ok := c.Old.(*api.Task); ok {
		r.count(was, -1)
	}
	if is, ok := c.New.(*api.Task); ok {
		r.count(is, 1)
	}
}

func (r running) count(t *api.Task, n int) {
	if t.GetStatus().GetState() != api.TaskState_RUNNING {
		return
	}
	if r[t.NodeId] += n; r[t.NodeId] == 0 {
		delete(r, t.NodeId)
	}
}

func TestAViewThatKeepsItsPromisePasses(t *testing.T) {
	t.Parallel()
	storetest.CheckView(t, func() store.View { return running{} })
}
