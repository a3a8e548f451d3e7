package agent_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/agent"
	"skep/api"
)

// storages are the implementations of Storage; each open gives the same one
// again, as a restart does.
func storages(t *testing.T) map[string]func() agent.Storage {
	memory := &agent.Memory{}
	path := filepath.Join(t.TempDir(), "worker", "tasks.db")
	var open *agent.Bolt
	t.Cleanup(func() {
		if open != nil {
			open.Close()
		}
	})
	return map[string]func() agent.Storage{
		"memory": func() agent.Storage { return memory },
		"bolt": func() agent.Storage {
			if open != nil {
				open.Close()
			}
			var err error
			if open, err = agent.OpenBolt(path); err != nil {
				t.Fatal(err)
			}
			return open
		},
	}
}

func TestAStorageGivesBackWhatWasWritten(t *testing.T) {
	t.Parallel()
	for name, open := range storages(t) {
		t.Run(name, func(t *testing.T) {
			task := func(id string) *api.Task { return &api.Task{Id: id, ServiceId: "web"} }
			status := &api.TaskStatus{State: api.TaskState_RUNNING}
			write(t, open(), nil, []agent.Record{
				{ID: "a", Task: task("a"), Status: &api.TaskStatus{State: api.TaskState_ASSIGNED}},
				{ID: "b", Task: task("b"), Status: status},
				{ID: "c", Task: task("c")},
			})
			write(t, open(), []string{"c", "never there"}, []agent.Record{
				{ID: "a", Status: status},
				{ID: "b", Gone: true},
			})
			got, err := open().Load()
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(got, func(a, b agent.Record) int { return strings.Compare(a.ID, b.ID) })
			if len(got) != 2 || got[0].ID != "a" || got[0].Gone || got[1].ID != "b" || !got[1].Gone {
				t.Fatalf("got %v", got)
			}
			for _, r := range got {
				if !proto.Equal(r.Task, task(r.ID)) || !proto.Equal(r.Status, status) {
					t.Errorf("got %v, %v", r.Task, r.Status)
				}
			}
		})
	}
}

func TestAFileInUseIsNotOpenedTwice(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tasks.db")
	first, err := agent.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := agent.OpenBolt(path); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("got %v", err)
	}
}

func write(t *testing.T, s agent.Storage, deleted []string, records []agent.Record) {
	t.Helper()
	if err := s.Write(records, deleted); err != nil {
		t.Fatal(err)
	}
}
