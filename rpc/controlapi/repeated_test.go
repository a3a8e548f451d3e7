package controlapi_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"skep/api"
	"skep/store"
)

// What a request costs follows from what there is, not from how often it asks for it.
// The test is alone while it measures: it is not parallel.
func TestAskingForTheSameAgainAndAgainCostsOnce(t *testing.T) {
	const tasks, times, most = 1000, 20_000, 32 << 20
	all := []store.Object{&api.Service{Id: "s", Spec: &api.ServiceSpec{
		Annotations: &api.Annotations{Name: "s"}, Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{}},
	}}}
	for i := range tasks {
		all = append(all, &api.Task{
			Id: fmt.Sprint("t", i), ServiceId: "s", NodeId: "n", Slot: uint64(i),
			Status: &api.TaskStatus{State: api.TaskState_RUNNING},
		})
	}
	server := newServer(storeOf(t, all))
	again := func(id string) []string { return slices.Repeat([]string{id}, times) }
	for name, ask := range map[string]func() (int, error){
		"ListTasks of a service": func() (int, error) {
			r, err := server.ListTasks(t.Context(), &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: again("s")}})
			return len(r.GetTasks()), err
		},
		"ListTasks of a node": func() (int, error) {
			r, err := server.ListTasks(t.Context(), &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{NodeIds: again("n")}})
			return len(r.GetTasks()), err
		},
		"ListServiceStatuses": func() (int, error) {
			r, err := server.ListServiceStatuses(t.Context(), &api.ListServiceStatusesRequest{Services: again("s")})
			first, last := r.GetStatuses()[0], r.GetStatuses()[times-1]
			if first != last { // counting takes time, and little memory
				t.Error("the tasks were counted more than once")
			}
			return int(last.GetRunningTasks()), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			found, err := ask()
			runtime.ReadMemStats(&after)
			if err != nil || found != tasks {
				t.Errorf("found %d tasks, %v; want %d", found, err, tasks)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > most {
				t.Errorf("took %d bytes, want at most %d", took, most)
			}
		})
	}
}
