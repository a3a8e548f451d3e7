package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
)

// A task is written "slot state desired [error]"; later ones are newer, "old:"
// runs another version of the service.
func parseTasks(t *testing.T, lines string) []*api.Task {
	t.Helper()
	var tasks []*api.Task
	for line := range strings.Lines(lines) {
		version := uint64(7)
		line, old := strings.CutPrefix(strings.TrimSpace(line), "old: ")
		if old {
			version = 3
		}
		var slot uint64
		var state, desired string
		if _, err := fmt.Sscan(line, &slot, &state, &desired); err != nil {
			t.Fatalf("task %q: %v", line, err)
		}
		problem := strings.Join(strings.Fields(line)[3:], " ")
		at := timestamppb.New(time.Unix(int64(len(tasks)), 0))
		tasks = append(tasks, &api.Task{
			Id: fmt.Sprint("t", len(tasks)), Slot: slot, Meta: &api.Meta{CreatedAt: at},
			SpecVersion:        &api.Version{Index: version},
			Spec:               &api.TaskSpec{ForceUpdate: version},
			ServiceAnnotations: &api.Annotations{Name: "web"},
			DesiredState:       api.TaskState(api.TaskState_value[desired]),
			Status:             &api.TaskStatus{State: api.TaskState(api.TaskState_value[state]), Err: problem, Timestamp: at},
		})
	}
	return tasks
}

func TestProgressSaysWhenAServiceIsThereAndWhenItNeverWillBe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why, tasks, want, failure string
		restart                   *api.RestartPolicy
	}{
		{why: "nothing is there yet", want: "0/2 running"},
		{
			why: "one of two runs",
			tasks: `1 RUNNING RUNNING
				2 STARTING RUNNING`,
			want: "1/2 running",
		},
		{
			why: "both run",
			tasks: `1 RUNNING RUNNING
				2 RUNNING RUNNING`,
			want: "2/2 running done",
		},
		{
			why: "both run, but a task of the old version is still meant to",
			tasks: `old: 2 RUNNING RUNNING
				1 RUNNING RUNNING
				2 RUNNING RUNNING`,
			want: "2/2 running",
		},
		{
			why: "a slot too many is still meant to run",
			tasks: `1 RUNNING RUNNING
				2 RUNNING RUNNING
				3 RUNNING RUNNING`,
			want: "3/2 running",
		},
		{
			why: "a task waits for a node and says why",
			tasks: `1 RUNNING RUNNING
				2 PENDING RUNNING no suitable node`,
			want: "1/2 running (web.2: no suitable node)",
		},
		{
			why: "one failure is followed by another try",
			tasks: `1 RUNNING RUNNING
				2 FAILED SHUTDOWN exit 1
				2 READY READY`,
			want: "1/2 running (web.2: exit 1)",
		},
		{
			why: "three failures in one slot are a crash loop",
			tasks: `2 FAILED SHUTDOWN exit 1
				2 FAILED SHUTDOWN exit 1
				2 FAILED SHUTDOWN exit 1
				2 READY READY`,
			want: "0/2 running (web.2: exit 1)", failure: "3 times in a row",
		},
		{
			why: "a slot whose next task we have not heard of yet is not given up",
			tasks: `1 RUNNING RUNNING
				2 FAILED SHUTDOWN exit 1`,
			want: "1/2 running (web.2: exit 1)",
		},
		{
			why: "nor has it done its work",
			tasks: `1 RUNNING RUNNING
				2 COMPLETE SHUTDOWN`,
			want: "1/2 running",
		},
		{
			why:     "a slot with an attempt left is not given up",
			restart: &api.RestartPolicy{Condition: api.RestartPolicy_ANY, MaxAttempts: 1},
			tasks: `1 RUNNING RUNNING
				2 FAILED SHUTDOWN exit 1`,
			want: "1/2 running (web.2: exit 1)",
		},
		{
			why:     "a slot that has used up its attempts is given up",
			restart: &api.RestartPolicy{Condition: api.RestartPolicy_ANY, MaxAttempts: 1},
			tasks: `1 RUNNING RUNNING
				2 FAILED SHUTDOWN exit 1
				2 FAILED SHUTDOWN exit 1`,
			want: "1/2 running (web.2: exit 1)", failure: "not restarted any more",
		},
		{
			why:     "a slot that is not restarted is given up",
			restart: &api.RestartPolicy{Condition: api.RestartPolicy_NONE},
			tasks: `1 RUNNING RUNNING
				2 FAILED SHUTDOWN exit 1`,
			want: "1/2 running (web.2: exit 1)", failure: "not restarted any more",
		},
		{
			why: "a task that its node refuses ends the wait before any has run",
			tasks: `2 REJECTED SHUTDOWN no such program
				2 READY READY`,
			want: "0/2 running (web.2: no such program)", failure: "refused it",
		},
		{
			why: "a refusal is no end while others of this version have run",
			tasks: `1 RUNNING RUNNING
				2 REJECTED SHUTDOWN no such program
				2 READY READY`,
			want: "1/2 running (web.2: no such program)",
		},
		{
			why:     "what ended well for good counts",
			restart: &api.RestartPolicy{Condition: api.RestartPolicy_ON_FAILURE},
			tasks: `1 COMPLETE SHUTDOWN
				2 RUNNING RUNNING`,
			want: "1/2 running, 1 completed done",
		},
	} {
		svc := &api.Service{
			SpecVersion: &api.Version{Index: 7},
			Spec:        &api.ServiceSpec{Task: &api.TaskSpec{ForceUpdate: 7, Restart: c.restart}, Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: 2}}},
		}
		p := measure(svc, parseTasks(t, c.tasks))
		got := p.String()
		if p.done {
			got += " done"
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.why, got, c.want)
		}
		if (p.failure == "") != (c.failure == "") || !strings.Contains(p.failure, c.failure) {
			t.Errorf("%s: got failure %q, want one that says %q", c.why, p.failure, c.failure)
		}
	}
}
