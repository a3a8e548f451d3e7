package model_test

import (
	"slices"
	"testing"

	"skep/api"
	"skep/model"
)

func TestTasksAreInTheOrderOfTheirCreation(t *testing.T) {
	t.Parallel()
	tasks := []*api.Task{
		parse(&api.Task{}, `id: "a" meta { created_at { seconds: 2 } }`),
		parse(&api.Task{}, `id: "c" meta { created_at { seconds: 1 } }`),
		parse(&api.Task{}, `id: "b" meta { created_at { seconds: 1 } }`),
	}
	slices.SortFunc(tasks, model.ByCreation)
	var got string
	for _, task := range tasks {
		got += task.GetId()
	}
	if want := "bca"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestATaskCameToItsStateWhenTheManagersSaySo(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]int64{
		`timestamp { seconds: 1 } applied_at { seconds: 2 }`: 2,
		`timestamp { seconds: 1 }`:                           1,
		``:                                                   0,
	} {
		task := &api.Task{Status: parse(&api.TaskStatus{}, status)}
		if got := model.CameToItsState(task).Unix(); got != want {
			t.Errorf("status %q: got %d, want %d", status, got, want)
		}
	}
}
