package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/api/skep"
)

// restartDelay is that of the service whose process is killed.
const restartDelay = 200 * time.Millisecond

// process kills a task's native process and measures until another runs.
func (s *suite) process(ctx context.Context) error {
	w, err := s.newSwarm(ctx, "process")
	if err != nil {
		return err
	}
	defer w.end()
	payload, err := anypb.New(&skep.ProcessSpec{Command: "sleep", Args: []string{"3600"}})
	if err != nil {
		return err
	}
	r, err := w.control.CreateService(ctx, &api.CreateServiceRequest{Spec: &api.ServiceSpec{
		Annotations: &api.Annotations{Name: "sleeper"},
		Task: &api.TaskSpec{
			Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "process", Payload: payload}},
			Restart: &api.RestartPolicy{Condition: api.RestartPolicy_ANY, Delay: durationpb.New(restartDelay)},
		},
		Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: 1}},
	}})
	if err != nil {
		return err
	}
	var all latencies
	last := ""
	for range 11 {
		t, err := awaitTask(ctx, w.control, r.Service.Id, last)
		if err != nil {
			return err
		}
		last = t.Id
		began := time.Now()
		if err := syscall.Kill(int(t.GetStatus().GetContainer().GetPid()), syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill the process of task %s: %w", t.Id, err)
		}
		if _, err := awaitTask(ctx, w.control, r.Service.Id, last); err != nil {
			return err
		}
		all = append(all, time.Since(began))
	}
	beyond := all.percentile(0.5) - restartDelay
	if err := s.report(result{Bench: "replace", Params: "kill -9 of a process, beyond its delay", Value: milliseconds(beyond), Unit: "ms",
		Detail: fmt.Sprintf("%s, delay %s", all, restartDelay), Check: "another task runs in its slot"}.
		promise("≤ 100 ms", beyond <= replaceBar)); err != nil {
		return err
	}
	// Its process must not outlive the measurement.
	if _, err := w.control.RemoveService(ctx, &api.RemoveServiceRequest{ServiceId: r.Service.Id}); err != nil {
		return err
	}
	return deployment{service: r.Service}.awaitGone(ctx, w.control)
}

// awaitTask waits for a running task of a service that is not the one named.
func awaitTask(ctx context.Context, control api.ControlClient, service, not string) (*api.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		r, err := control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: []string{service}}})
		if err != nil {
			return nil, err
		}
		for _, t := range r.Tasks {
			if t.Id != not && t.GetStatus().GetState() == api.TaskState_RUNNING && t.DesiredState == api.TaskState_RUNNING {
				return t, nil
			}
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return nil, fmt.Errorf("no other task than %q runs: %w", not, err)
		}
	}
}
