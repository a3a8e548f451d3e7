package scheduler

import (
	"container/list"

	"skep/api"
)

// groupKey names tasks that are alike: those of one version of a service, or a
// single task of none.
type groupKey struct {
	service string
	version uint64
	driver  string // of the log: the cluster's default may change within a version
	task    string
}

func groupOf(t *api.Task) groupKey {
	if t.GetServiceId() == "" || t.GetSpecVersion() == nil {
		return groupKey{task: t.GetId()}
	}
	return groupKey{service: t.GetServiceId(), version: t.GetSpecVersion().GetIndex(), driver: t.GetLogDriver().GetName()}
}

// alike reports whether a task is to be placed as before.
func alike(was, is *api.Task) bool {
	return was.GetNodeId() == is.GetNodeId() && was.GetSpec() == is.GetSpec() && was.GetEndpoint() == is.GetEndpoint() && groupOf(was) == groupOf(is)
}

// group is the pending tasks that are alike.
type group struct {
	key   groupKey
	class *class
	place *list.Element // in class.groups
	tasks queue
}

// class is the groups that fit on the same nodes at any time.
type class struct {
	key    string
	need   *need
	pool   *pool
	groups list.List // of *group, the one to be placed first in front
	tasks  int
	unsaid queue // tasks that do not say yet why they wait

	// The state of placing, not of the cluster.
	waiting bool   // nothing fits now
	place   int    // in pool.waiting, while waiting
	said    string // why, as the tasks say it
}

func (c *class) first() *group { return c.groups.Front().Value.(*group) }
