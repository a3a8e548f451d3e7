package cli

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
)

// progress is how far a service is from what was asked.
type progress struct {
	desired, running, completed int
	// problem is the newest reason why a task does not run; "" when there is none.
	problem string
	// failure says why it will never get there by itself; "" while it may.
	failure string
	// failed is the task that failure is about, if it ran: it has a log.
	failed string
	done   bool
	// since is when the last task that runs was reported to do so.
	since time.Time
	// unproven says that all runs, but not for long enough to count.
	unproven bool
}

func (p progress) String() string {
	s := fmt.Sprintf("%d/%d running", p.running, p.desired)
	if p.completed > 0 {
		s += fmt.Sprintf(", %d completed", p.completed)
	}
	switch {
	case p.unproven:
		s += ", watching that it lasts"
	case p.problem != "" && !p.done:
		s += " (" + p.problem + ")"
	}
	return s
}

// parts counts tasks. A service that is to have none is a part that is done.
func (p progress) parts() (done, all int) {
	if p.desired == 0 {
		return 1, 1
	}
	return p.running + p.completed, p.desired
}

// crashes is how often one slot may fail before that counts as a crash loop.
const crashes = 3

// measure compares the tasks of a replicated service with its spec. It is done
// when as many tasks as asked run, or ended well for good, and no other task is
// meant to run. It has failed when a slot is given up, when a task is rejected
// before any has run, or when one slot failed three times.
func measure(svc *api.Service, tasks []*api.Task) progress {
	p := progress{desired: int(svc.GetSpec().GetReplicated().GetReplicas())}
	slots := map[uint64][]*api.Task{}
	others := 0
	for _, t := range tasks {
		switch {
		case upToDate(svc, t):
			slots[t.Slot] = append(slots[t.Slot], t)
		case t.DesiredState <= api.TaskState_RUNNING:
			others++
		}
	}
	ran := slices.ContainsFunc(tasks, func(t *api.Task) bool { return upToDate(svc, t) && reachedRunning(t) })
	var newest *api.Task
	for _, slot := range slots {
		slices.SortFunc(slot, func(x, y *api.Task) int {
			return y.GetMeta().GetCreatedAt().AsTime().Compare(x.GetMeta().GetCreatedAt().AsTime())
		})
		p.countSlot(svc, slot, ran)
		for _, t := range slot {
			if taskProblem(t) != "" && (newest == nil || t.GetStatus().GetTimestamp().AsTime().After(newest.GetStatus().GetTimestamp().AsTime())) {
				newest = t
			}
		}
	}
	if newest != nil {
		p.problem = shortTaskName(newest) + ": " + taskProblem(newest)
	}
	wanted := 0
	for _, t := range tasks {
		if t.DesiredState <= api.TaskState_RUNNING {
			wanted++
		}
	}
	p.done = others == 0 && p.running+p.completed == p.desired && wanted <= p.desired
	return p
}

// countSlot adds what the tasks of one slot, the newest first, say.
func (p *progress) countSlot(svc *api.Service, slot []*api.Task, ran bool) {
	failed := 0
	for _, t := range slot {
		switch t.GetStatus().GetState() {
		case api.TaskState_RUNNING:
			if t.DesiredState == api.TaskState_RUNNING {
				p.running++
				if at := t.GetStatus().GetAppliedAt().AsTime(); at.After(p.since) {
					p.since = at
				}
				return
			}
		case api.TaskState_FAILED, api.TaskState_REJECTED:
			failed++
		}
	}
	last := slot[0]
	live := slices.ContainsFunc(slot, func(t *api.Task) bool { return t.DesiredState <= api.TaskState_RUNNING })
	for _, t := range slot {
		if state := t.GetStatus().GetState(); state == api.TaskState_FAILED || state == api.TaskState_REJECTED || state == api.TaskState_COMPLETE {
			last = t
			break
		}
	}
	// The news that a task has ended may come before the news of the next one.
	given := !live && !restarts(svc, last, len(slot))
	switch state := last.GetStatus().GetState(); {
	case given && state == api.TaskState_COMPLETE:
		p.completed++
	case given && (state == api.TaskState_FAILED || state == api.TaskState_REJECTED):
		p.fail(last, "it is not restarted any more")
	case state == api.TaskState_REJECTED && !ran:
		p.fail(last, "its node refused it before it could start")
	case failed >= crashes:
		p.fail(last, fmt.Sprintf("it failed %d times in a row", failed))
	}
}

// restarts reports whether the service's policy has t, the last of so many tasks
// in its slot, replaced when it has ended.
func restarts(svc *api.Service, t *api.Task, tasks int) bool {
	policy := svc.GetSpec().GetTask().GetRestart()
	switch {
	case policy == nil:
		return true
	case policy.Condition == api.RestartPolicy_NONE:
		return false
	case policy.Condition == api.RestartPolicy_ON_FAILURE && t.GetStatus().GetState() == api.TaskState_COMPLETE:
		return false
	}
	return policy.MaxAttempts == 0 || uint64(tasks) <= policy.MaxAttempts
}

func (p *progress) fail(t *api.Task, why string) {
	if p.failure == "" {
		p.failure = fmt.Sprintf("%s: %s; %s", shortTaskName(t), taskProblem(t), why)
		if reachedRunning(t) {
			p.failed = t.Id
		}
	}
}

func reachedRunning(t *api.Task) bool {
	state := t.GetStatus().GetState()
	return state >= api.TaskState_RUNNING && state != api.TaskState_REJECTED
}

// upToDate reports whether t runs what the service asks for now.
func upToDate(svc *api.Service, t *api.Task) bool {
	return t.GetSpecVersion().GetIndex() == svc.GetSpecVersion().GetIndex() && svc.SpecVersion != nil ||
		proto.Equal(t.Spec, svc.GetSpec().GetTask())
}
