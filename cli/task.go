package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/api/skep"
	"skep/model"
)

func (a *app) task() *cobra.Command {
	return noun("task", "Look at tasks", a.taskList(), a.taskInspect(), a.taskRemove(), a.taskLogs())
}

func (a *app) tasks(control api.ControlClient) finder[*api.Task] {
	f := finder[*api.Task]{
		kind: "task",
		name: taskName,
		get: func(ctx context.Context, id string) (*api.Task, error) {
			r, err := control.GetTask(ctx, &api.GetTaskRequest{TaskId: id})
			return r.GetTask(), err
		},
		list: func(ctx context.Context, q query) ([]*api.Task, error) {
			r, err := control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{
				Names: q.names, NamePrefixes: q.namePrefixes, IdPrefixes: q.idPrefixes}})
			return r.GetTasks(), err
		},
	}
	f.short = func(ctx context.Context, name string) (*api.Task, bool, error) {
		tasks, err := f.list(ctx, query{namePrefixes: []string{name + "."}})
		t, ok := inSlot(name, tasks)
		return t, ok, err
	}
	return f
}

// inSlot returns the task that the name of a slot, "web.3", means: the newest
// one that is meant to run, else the newest of the history.
func inSlot(name string, tasks []*api.Task) (*api.Task, bool) {
	tasks = slices.DeleteFunc(tasks, func(t *api.Task) bool { return shortTaskName(t) != name })
	if live := current(slices.Clone(tasks), false); len(live) > 0 {
		tasks = live
	}
	if len(tasks) == 0 {
		return nil, false
	}
	return slices.MaxFunc(tasks, func(x, y *api.Task) int {
		return x.GetMeta().GetCreatedAt().AsTime().Compare(y.GetMeta().GetCreatedAt().AsTime())
	}), true
}

func (a *app) taskList() *cobra.Command {
	var all, quiet bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List tasks", Args: arguments(0, 0),
		Example: "  swarmctl task ls\n  swarmctl task ls --all -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			r, err := control.ListTasks(c.Context(), &api.ListTasksRequest{})
			if err != nil {
				return err
			}
			return a.printTasks(c.Context(), control, current(r.Tasks, all), quiet)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also tasks that have ended")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return c
}

// current leaves out tasks that are not meant to run any more, unless all is asked for.
func current(tasks []*api.Task, all bool) []*api.Task {
	if all {
		return tasks
	}
	return slices.DeleteFunc(tasks, func(t *api.Task) bool { return t.DesiredState > api.TaskState_RUNNING })
}

// printTasks lists tasks by service and slot, the newest of a slot first.
func (a *app) printTasks(ctx context.Context, control api.ControlClient, tasks []*api.Task, quiet bool) error {
	slices.SortStableFunc(tasks, func(x, y *api.Task) int {
		return cmp.Or(
			strings.Compare(x.GetServiceAnnotations().GetName(), y.GetServiceAnnotations().GetName()),
			strings.Compare(x.ServiceId, y.ServiceId),
			cmp.Compare(x.Slot, y.Slot),
			y.GetMeta().GetCreatedAt().AsTime().Compare(x.GetMeta().GetCreatedAt().AsTime()),
		)
	})
	node := func(id string) string { return id }
	if !a.noResolve && !quiet && a.format == "table" && len(tasks) > 0 {
		names, err := nodeNames(ctx, control)
		if err != nil {
			return err
		}
		node = func(id string) string { return cmp.Or(names[id], id) }
	}
	now := time.Now()
	return list(a, quiet, tasks, []column[*api.Task]{
		{"ID", func(t *api.Task) string { return t.Id }},
		{"NAME", shortTaskName},
		{"NODE", func(t *api.Task) string { return node(t.NodeId) }},
		{"DESIRED", func(t *api.Task) string { return title(t.DesiredState) }},
		{"STATE", func(t *api.Task) string {
			return strings.TrimSpace(title(t.GetStatus().GetState()) + " " + age(now, t.GetStatus().GetTimestamp()))
		}},
		{"PORTS", func(t *api.Task) string {
			return strings.Join(portTexts(t.GetStatus().GetPortStatus().GetPorts()), ",")
		}},
		{"ERROR", taskProblem},
	})
}

// taskProblem is what keeps a task from running, or how it ended.
func taskProblem(t *api.Task) string {
	s := t.GetStatus()
	switch {
	case s.GetErr() != "":
		return s.GetErr()
	case t.DesiredState > api.TaskState_RUNNING:
		return model.WhyStopped(t)
	}
	return ""
}

func taskName(t *api.Task) string {
	if name := t.GetAnnotations().GetName(); name != "" {
		return name
	}
	return shortTaskName(t) + "." + t.Id
}

// shortTaskName is the name without the task's own ID: "web.3".
func shortTaskName(t *api.Task) string {
	place := strconv.FormatUint(t.Slot, 10)
	if t.Slot == 0 {
		place = t.NodeId
	}
	return cmp.Or(t.GetServiceAnnotations().GetName(), t.ServiceId) + "." + place
}

func portTexts(ports []*api.PortConfig) []string {
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprintf("%d/%s", cmp.Or(p.PublishedPort, p.TargetPort), strings.ToLower(p.Protocol.String())))
	}
	return out
}

func (a *app) taskInspect() *cobra.Command {
	return &cobra.Command{
		Use: "inspect TASK", Short: "Show one task", Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			t, err := a.tasks(control).find(c.Context(), args[0])
			if err != nil {
				return err
			}
			return inspect(a, t, func(s *summary) { summarizeTask(s, t, time.Now()) })
		},
	}
}

func summarizeTask(s *summary, t *api.Task, now time.Time) {
	observed := t.GetStatus()
	s.line("ID", t.Id)
	s.line("Name", taskName(t))
	s.line("Service", cmp.Or(t.GetServiceAnnotations().GetName(), t.ServiceId))
	s.linef("Slot", "%d", t.Slot)
	s.line("Node", t.NodeId)
	s.line("Desired state", title(t.DesiredState))
	s.line("State", title(observed.GetState()))
	s.line("Since", age(now, observed.GetTimestamp()))
	s.line("Message", observed.GetMessage())
	s.line("Error", observed.GetErr())
	s.line("Stopped", model.WhyStopped(t))
	if c := observed.GetContainer(); c != nil {
		s.line("Container", c.ContainerId)
		if c.Pid != 0 {
			s.linef("PID", "%d", c.Pid)
		}
		if observed.State > api.TaskState_RUNNING {
			s.linef("Exit code", "%d", c.ExitCode)
		}
	}
	s.line("Ports", strings.Join(portTexts(observed.GetPortStatus().GetPorts()), ", "))
	s.line("Runs", workload(t.GetSpec()))
}

func (a *app) taskRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm TASK…", Aliases: []string{"remove"}, Short: "Remove tasks; those of a service are made anew",
		Args: arguments(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			return each(c.Context(), a, a.tasks(control), args, func(t *api.Task) error {
				_, err := control.RemoveTask(c.Context(), &api.RemoveTaskRequest{TaskId: t.Id})
				if err == nil {
					fmt.Fprintln(a.Out, t.Id)
				}
				return err
			})
		},
	}
}

func (a *app) taskLogs() *cobra.Command {
	var follow bool
	var tail uint64
	c := &cobra.Command{
		Use: "logs TASK", Short: "Print what a process of this machine wrote", Args: arguments(1, 1),
		Example: "  swarmctl task logs --follow hello.1\n  swarmctl task logs --tail 20 2xq9",
		RunE: func(c *cobra.Command, args []string) error {
			local, err := a.local()
			if err != nil {
				return err
			}
			id, node := a.localTask(c.Context(), args[0])
			stream, err := local.TaskLogs(c.Context(), &skep.TaskLogsRequest{TaskId: id, Follow: follow, Tail: tail})
			if err == nil {
				err = copyLogs(stream, a.Streams)
			}
			if status.Code(err) == codes.NotFound && node != "" {
				return exitf(ExitNotFound, "task %s ran on node %s: 'swarmctl task logs %s' on that machine prints what it wrote", args[0], node, id)
			}
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	c.Flags().Uint64Var(&tail, "tail", 0, "only the last `N` lines (0: all)")
	return c
}

func copyLogs(stream grpc.ServerStreamingClient[skep.TaskLogsResponse], to Streams) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out := to.Out
		if m.Stream == skep.TaskLogsResponse_STDERR {
			out = to.Err
		}
		if _, err := out.Write(m.Data); err != nil {
			return err
		}
	}
}

// localTask turns a name into an ID, and says on which node the task is, where a
// manager can tell. On a worker the argument is taken as it is.
func (a *app) localTask(ctx context.Context, arg string) (id, node string) {
	control, err := a.control()
	if err != nil {
		return arg, ""
	}
	t, err := a.tasks(control).find(ctx, arg)
	if err != nil {
		return arg, ""
	}
	names, err := nodeNames(ctx, control)
	if err != nil {
		return t.Id, t.NodeId
	}
	return t.Id, cmp.Or(names[t.NodeId], t.NodeId)
}
