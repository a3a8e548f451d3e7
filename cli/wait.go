package cli

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/api/skep"
)

// waitFlags say whether and how long a command waits for its effect.
type waitFlags struct {
	detach          bool
	timeout, stable time.Duration
}

func (f *waitFlags) register(set *pflag.FlagSet) {
	f.registerDetach(set)
	f.registerTimeout(set)
	f.registerStable(set)
}

func (f *waitFlags) registerDetach(set *pflag.FlagSet) {
	set.BoolVarP(&f.detach, "detach", "d", false, "do not wait")
}

func (f *waitFlags) registerTimeout(set *pflag.FlagSet) {
	set.DurationVar(&f.timeout, "timeout", 10*time.Minute, "wait for `TIME` at most; the operation goes on")
}

func (f *waitFlags) registerStable(set *pflag.FlagSet) {
	set.DurationVar(&f.stable, "stable", time.Second, "tasks that nobody probes count once they have run for `TIME`")
}

// errSteady ends the waiting for tasks that have run for long enough.
var errSteady = errors.New("the tasks stay up")

// wait follows a replicated service until it runs as asked, cannot get there any
// more, or the time is up. Interrupting it stops only the waiting.
func (a *app) wait(ctx context.Context, control api.ControlClient, svc *api.Service, flags waitFlags) error {
	if flags.detach || svc.GetSpec().GetReplicated() == nil {
		return nil
	}
	name := serviceName(svc)
	waiting, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	watching, settle := context.WithCancelCause(waiting)
	defer settle(nil)
	p := newReporter(a.Err, name)
	defer p.end()
	var last progress
	var settled *time.Timer // runs while all is as asked, but not for long enough yet
	err := a.follow(watching, control, svc.Id, func(svc *api.Service, tasks []*api.Task) (bool, error) {
		if settled != nil {
			settled.Stop()
		}
		if svc == nil {
			return false, exitf(ExitNotFound, "service %s was removed meanwhile", name)
		}
		last = measure(svc, tasks)
		if last.failure != "" && !last.done {
			p.report(last)
			look := "'swarmctl service ps --all " + name + "'"
			if last.failed != "" {
				look += " and 'swarmctl task logs " + last.failed + "'"
			}
			return false, exitf(ExitFailed, "service %s does not run: %s\nSee %s.", name, last.failure, look)
		}
		// A program that ends at once runs for a moment, too. What was reported
		// lately is watched from now on: the report of its end may be on its way.
		last.unproven = last.done && last.running > 0 && !probed(svc) && time.Since(last.since) < 10*flags.stable
		p.report(last)
		if last.unproven {
			settled = time.AfterFunc(flags.stable, func() { settle(errSteady) })
		}
		return last.done && !last.unproven, nil
	})
	switch {
	case ctx.Err() != nil:
		return exitf(ExitInterrupted, "interrupted; the operation goes on in the background, see 'swarmctl service ps %s'", name)
	case errors.Is(context.Cause(watching), errSteady):
		last.unproven = false
		p.report(last)
		return nil
	// The manager may notice the deadline before we do.
	case err != nil && (errors.Is(waiting.Err(), context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded):
		return exitf(ExitTimeout, "service %s is not there after %s: %s\nThe operation goes on, see 'swarmctl service ps %s'.", name, flags.timeout, last, name)
	}
	return err
}

// probed reports whether tasks of svc count as running only once a probe has
// found them healthy.
func probed(svc *api.Service) bool {
	var p skep.ProcessSpec
	return svc.GetSpec().GetTask().GetGeneric().GetPayload().UnmarshalTo(&p) == nil && p.Health != nil
}

// follow calls look with the service and its tasks, first as they are and then
// after every change, until look says that it has seen enough. A manager that
// goes away is waited for, and a watch that fell behind is begun anew.
func (a *app) follow(ctx context.Context, control api.ControlClient, id string, look func(*api.Service, []*api.Task) (bool, error)) error {
	for {
		done, err := a.followOnce(ctx, control, id, look)
		if code := status.Code(err); done || err != nil && code != codes.Unavailable && code != codes.ResourceExhausted {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond): // a manager that restarts, or that elects
		}
	}
}

func (a *app) followOnce(ctx context.Context, control api.ControlClient, id string, look func(*api.Service, []*api.Task) (bool, error)) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := api.WatchActionKind_WATCH_ACTION_CREATE | api.WatchActionKind_WATCH_ACTION_UPDATE | api.WatchActionKind_WATCH_ACTION_REMOVE
	stream, err := a.watch(ctx,
		&api.WatchRequest_WatchEntry{Kind: "service", Action: all, Filters: []*api.SelectBy{{By: &api.SelectBy_Id{Id: id}}}},
		&api.WatchRequest_WatchEntry{Kind: "task", Action: all, Filters: []*api.SelectBy{{By: &api.SelectBy_ServiceId{ServiceId: id}}}})
	if err != nil {
		return false, err
	}
	got, err := control.GetService(ctx, &api.GetServiceRequest{ServiceId: id})
	if err != nil && status.Code(err) != codes.NotFound {
		return false, err
	}
	svc := got.GetService()
	listed, err := control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: []string{id}}})
	if err != nil {
		return false, err
	}
	tasks := map[string]*api.Task{}
	for _, t := range listed.Tasks {
		tasks[t.Id] = t
	}
	for {
		if done, err := look(svc, slices.Collect(maps.Values(tasks))); done || err != nil {
			return done, err
		}
		m, err := stream.Recv()
		if err != nil {
			return false, err
		}
		for _, e := range m.Events {
			removed := e.Action == api.WatchActionKind_WATCH_ACTION_REMOVE
			switch o := e.GetObject(); {
			case o.GetService() != nil && removed:
				svc = nil
			case o.GetService() != nil:
				svc = newer(svc, o.GetService())
			case removed:
				delete(tasks, o.GetTask().GetId())
			case o.GetTask() != nil:
				tasks[o.GetTask().Id] = newer(tasks[o.GetTask().Id], o.GetTask())
			}
		}
	}
}

// newer keeps the younger of what was listed and what an event, which may be
// older than the list, brings.
func newer[T interface{ GetMeta() *api.Meta }](have, event T) T {
	if have.GetMeta().GetVersion().GetIndex() > event.GetMeta().GetVersion().GetIndex() {
		return have
	}
	return event
}
