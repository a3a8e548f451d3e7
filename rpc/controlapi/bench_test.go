package controlapi_test

import (
	"fmt"
	"testing"

	"skep/api"
	"skep/store"
)

// Counting costs the tasks of the services that are asked for, and copies none.
func BenchmarkListServiceStatuses(b *testing.B) {
	for _, tasks := range []int{10, 1000} {
		b.Run(fmt.Sprintf("services=100/tasks=%d", tasks), func(b *testing.B) {
			s := store.NewLocal(store.Config{})
			ids := make([]string, 100)
			for i := range ids {
				ids[i] = fmt.Sprintf("s%d", i)
				err := s.Update(b.Context(), func(tx *store.Tx) error {
					spec := &api.ServiceSpec{Annotations: &api.Annotations{Name: ids[i]}, Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: uint64(tasks)}}}
					if err := tx.Create(&api.Service{Id: ids[i], Spec: spec}); err != nil {
						return err
					}
					for j := range tasks {
						if err := tx.Create(&api.Task{Id: fmt.Sprintf("t%d.%d", i, j), ServiceId: ids[i], Slot: uint64(j), Status: &api.TaskStatus{State: api.TaskState_RUNNING}}); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			server := newServer(s)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := server.ListServiceStatuses(b.Context(), &api.ListServiceStatusesRequest{Services: ids}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
