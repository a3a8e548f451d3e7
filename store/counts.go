package store

import "skep/api"

// counts is how many objects there are in each state: a view, so that a scrape
// does not read 100,000 tasks.
type counts struct {
	Nodes map[api.NodeStatus_State]int
	Tasks map[api.TaskState]int
}

func newCounts() *counts {
	return &counts{Nodes: map[api.NodeStatus_State]int{}, Tasks: map[api.TaskState]int{}}
}

// Build implements View.
func (c *counts) Build(s *Snapshot) {
	clear(c.Nodes)
	clear(c.Tasks)
	for n := range s.Nodes.All() {
		c.count(n, 1)
	}
	for t := range s.Tasks.All() {
		c.count(t, 1)
	}
}

// Apply implements View.
func (c *counts) Apply(ch Change) {
	c.count(ch.Old, -1)
	c.count(ch.New, 1)
}

func (c *counts) count(o Object, n int) {
	switch o := o.(type) {
	case *api.Node:
		add(c.Nodes, o.GetStatus().GetState(), n)
	case *api.Task:
		add(c.Tasks, o.GetStatus().GetState(), n)
	}
}

func add[K comparable](m map[K]int, k K, n int) {
	if m[k] += n; m[k] == 0 {
		delete(m, k)
	}
}
