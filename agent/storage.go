package agent

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"skep/api"
)

// Storage keeps the tasks of a node across restarts of the agent. It is used by
// one agent at a time.
type Storage interface {
	// Load returns all that is kept, in any order.
	Load() ([]Record, error)
	// Write changes records and deletes others, all or nothing, and returns when
	// that is durable. Task and Status that are nil stay as they were.
	Write(changed []Record, deleted []string) error
}

// Record is one task of the node.
type Record struct {
	ID     string
	Task   *api.Task
	Status *api.TaskStatus
	// Gone says that the managers have withdrawn the task: what is left of it is
	// to be removed.
	Gone bool
}

// Memory is a Storage that lasts as long as the process: for simulated agents
// and tests. The zero value is empty and ready.
type Memory struct {
	mu      sync.Mutex
	records map[string]Record
}

// Load returns the records in order of their IDs.
func (m *Memory) Load() ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.records), func(a, b Record) int { return strings.Compare(a.ID, b.ID) }), nil
}

// Write never fails.
func (m *Memory) Write(changed []Record, deleted []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = make(map[string]Record)
	}
	for _, r := range changed {
		old := m.records[r.ID]
		if r.Task == nil {
			r.Task = old.Task
		}
		if r.Status == nil {
			r.Status = old.Status
		}
		m.records[r.ID] = r
	}
	for _, id := range deleted {
		delete(m.records, id)
	}
	return nil
}
