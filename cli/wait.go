package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
)

// waitFlags say whether and how long a command waits for its effect.
type waitFlags struct {
	detach  bool
	timeout time.Duration
}

func (f *waitFlags) register(set *pflag.FlagSet) {
	set.BoolVarP(&f.detach, "detach", "d", false, "do not wait")
	set.DurationVar(&f.timeout, "timeout", 10*time.Minute, "wait no longer than this; the operation goes on")
}

// silence is how long progress that is not on a terminal may say nothing.
const silence = 30 * time.Second

// wait follows a replicated service until it runs as asked, cannot get there any
// more, or the time is up. Interrupting it stops only the waiting.
func (a *app) wait(ctx context.Context, control api.ControlClient, svc *api.Service, flags waitFlags) error {
	if flags.detach || svc.GetSpec().GetReplicated() == nil {
		return nil
	}
	name := serviceName(svc)
	waiting, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	p := newReporter(a.Err, name)
	defer p.end()
	var last progress
	err := a.follow(waiting, control, svc.Id, func(svc *api.Service, tasks []*api.Task) (bool, error) {
		if svc == nil {
			return false, exitf(ExitNotFound, "service %s was removed meanwhile", name)
		}
		last = measure(svc, tasks)
		p.report(last)
		if last.failure != "" && !last.done {
			return false, exitf(ExitFailed, "service %s does not run: %s\nSee 'swarmctl service ps --all %s'.", name, last.failure, name)
		}
		return last.done, nil
	})
	switch {
	case ctx.Err() != nil:
		return exitf(ExitInterrupted, "interrupted; the operation goes on in the background, see 'swarmctl service ps %s'", name)
	case errors.Is(waiting.Err(), context.DeadlineExceeded) && err != nil:
		return exitf(ExitTimeout, "service %s is not there after %s: %s\nThe operation goes on, see 'swarmctl service ps %s'.", name, flags.timeout, last, name)
	}
	return err
}

// follow calls look with the service and its tasks, first as they are and then
// after every change, until look says that it has seen enough. A manager that
// goes away is waited for.
func (a *app) follow(ctx context.Context, control api.ControlClient, id string, look func(*api.Service, []*api.Task) (bool, error)) error {
	for {
		done, err := a.followOnce(ctx, control, id, look)
		if done || err != nil && status.Code(err) != codes.Unavailable {
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

// reporter shows progress: one line that is written over on a terminal, a line
// with a time for every change elsewhere.
type reporter struct {
	out    io.Writer
	name   string
	live   bool
	shown  string
	spoken time.Time
}

func newReporter(out io.Writer, name string) *reporter {
	return &reporter{out: out, name: name, live: terminal(out)}
}

const barWidth = 30

func (r *reporter) report(p progress) {
	now := time.Now()
	text := p.String()
	if text == r.shown && now.Sub(r.spoken) < silence {
		return
	}
	r.shown, r.spoken = text, now
	if !r.live {
		fmt.Fprintf(r.out, "%s %s: %s\n", now.Format(time.RFC3339), r.name, text)
		return
	}
	full := barWidth
	if p.desired > 0 {
		full = min(barWidth*(p.running+p.completed)/p.desired, barWidth)
	}
	fmt.Fprintf(r.out, "\r\x1b[K%s [%s%s] %s", r.name, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), text)
}

func (r *reporter) end() {
	if r.live && r.shown != "" {
		fmt.Fprintln(r.out)
	}
}
