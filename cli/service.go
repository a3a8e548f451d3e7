package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
)

func (a *app) service() *cobra.Command {
	c := noun("service", "Run and change services",
		a.serviceCreate(), a.serviceList(), a.servicePs(), a.serviceInspect(), a.serviceUpdate(), a.serviceScale(), a.serviceWait(), a.serviceRemove())
	c.Aliases = []string{"svc"}
	return c
}

func (a *app) services(control api.ControlClient) finder[*api.Service] {
	return finder[*api.Service]{
		kind: "service",
		name: serviceName,
		get: func(ctx context.Context, id string) (*api.Service, error) {
			r, err := control.GetService(ctx, &api.GetServiceRequest{ServiceId: id})
			return r.GetService(), err
		},
		list: func(ctx context.Context, q query) ([]*api.Service, error) {
			r, err := control.ListServices(ctx, &api.ListServicesRequest{Filters: &api.ListServicesRequest_Filters{
				Names: q.names, NamePrefixes: q.namePrefixes, IdPrefixes: q.idPrefixes}})
			return r.GetServices(), err
		},
	}
}

func serviceName(s *api.Service) string { return s.GetSpec().GetAnnotations().GetName() }

func (a *app) serviceCreate() *cobra.Command {
	var name string
	var waiting waitFlags
	c := &cobra.Command{
		Use:   "create [NAME] (--image IMAGE | --process CMD) [flags] [-- ARGS…]",
		Short: "Create a service and wait until it runs",
		Example: `  swarmctl service create web --image nginx:1.27 --replicas 3
  swarmctl service create hello --process ./hello -p 0:8080 --replicas 3 -- --greeting hi
  swarmctl service create worker --process ./worker --secret db-password --restart-condition failure --detach`,
	}
	c.Flags().StringVar(&name, "name", "", "its `NAME`, if not given as an argument")
	flags := newSpecFlags(c.Flags())
	waiting.register(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		before, after := splitAtDash(c, args)
		name, rest, err := nameArg(name, before)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return usageError(c, fmt.Errorf("%q is one argument too many: arguments of the process come after --", rest[0]))
		}
		control, err := a.control()
		if err != nil {
			return err
		}
		d := newDraft(&api.ServiceSpec{
			Annotations: &api.Annotations{Name: name},
			Task:        &api.TaskSpec{},
			Mode:        &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: 1}},
		}, a, control)
		if err := flags.apply(c.Context(), d, after); err != nil {
			return err
		}
		if d.spec.Task.Runtime == nil {
			return fmt.Errorf("what shall it run? Give --image IMAGE for a container or --process CMD for a native process")
		}
		r, err := control.CreateService(c.Context(), &api.CreateServiceRequest{Spec: d.spec})
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Out, r.Service.Id)
		return a.wait(c.Context(), control, r.Service, waiting)
	}
	return c
}

// splitAtDash parts what stands before "--" from what comes after it.
func splitAtDash(c *cobra.Command, args []string) (before, after []string) {
	if n := c.ArgsLenAtDash(); n >= 0 {
		return args[:n], args[n:]
	}
	return args, nil
}

func (a *app) serviceUpdate() *cobra.Command {
	var force bool
	var waiting waitFlags
	c := &cobra.Command{
		Use:   "update SERVICE [flags] [-- ARGS…]",
		Short: "Change a service and wait until it runs as changed",
		Example: `  swarmctl service update web --image nginx:1.28
  swarmctl service update hello --env GREETING=hi --replicas 5
  swarmctl service update hello --force`,
	}
	flags := newSpecFlags(c.Flags())
	flags.registerUpdateOnly(c.Flags())
	c.Flags().BoolVar(&force, "force", false, "replace the tasks even if nothing changed")
	waiting.register(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		before, after := splitAtDash(c, args)
		if len(before) != 1 {
			return usageError(c, fmt.Errorf("name one service; got %d arguments", len(before)))
		}
		control, err := a.control()
		if err != nil {
			return err
		}
		s, err := a.services(control).find(c.Context(), before[0])
		if err != nil {
			return err
		}
		d := newDraft(proto.CloneOf(s.GetSpec()), a, control)
		if err := flags.apply(c.Context(), d, after); err != nil {
			return err
		}
		if force {
			d.spec.Task.ForceUpdate++
		}
		if proto.Equal(d.spec, s.Spec) {
			return fmt.Errorf("no changes detected")
		}
		r, err := control.UpdateService(c.Context(), &api.UpdateServiceRequest{ServiceId: s.Id, ServiceVersion: s.GetMeta().GetVersion(), Spec: d.spec})
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Out, r.Service.Id)
		return a.wait(c.Context(), control, r.Service, waiting)
	}
	return c
}

func (a *app) serviceScale() *cobra.Command {
	var waiting waitFlags
	c := &cobra.Command{
		Use: "scale SERVICE=N…", Short: "Set how many replicas services have", Args: arguments(1, -1),
		Example: "  swarmctl service scale web=5 worker=0",
	}
	waiting.register(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		control, err := a.control()
		if err != nil {
			return err
		}
		goals, err := parseAll(args, parseScale)
		if err != nil {
			return err
		}
		// All are asked for before any is waited for: a service that cannot get
		// there keeps no other from its size.
		var ids []string
		for _, g := range goals {
			s, err := a.scale(c.Context(), control, g)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out, s.Id)
			ids = append(ids, s.Id)
		}
		if waiting.detach {
			return nil
		}
		return each(c.Context(), a, a.services(control), ids, func(s *api.Service) error {
			return a.wait(c.Context(), control, s, waiting)
		})
	}
	return c
}

// scaleGoal is how many replicas a service shall have.
type scaleGoal struct {
	service  string
	replicas uint64
}

// parseScale parses SERVICE=N.
func parseScale(v string) (scaleGoal, error) {
	name, number, ok := strings.Cut(v, "=")
	replicas, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil {
		return scaleGoal{}, fmt.Errorf("%q is not SERVICE=N, such as web=5", v)
	}
	return scaleGoal{name, replicas}, nil
}

// scale writes how many replicas a service shall have, and returns what is stored.
func (a *app) scale(ctx context.Context, control api.ControlClient, g scaleGoal) (*api.Service, error) {
	s, err := a.services(control).find(ctx, g.service)
	if err != nil {
		return nil, err
	}
	if s.GetSpec().GetReplicated() == nil {
		return nil, fmt.Errorf("service %s has no number of replicas: it is not in replicated mode", serviceName(s))
	}
	spec := proto.CloneOf(s.Spec)
	spec.GetReplicated().Replicas = g.replicas
	r, err := control.UpdateService(ctx, &api.UpdateServiceRequest{ServiceId: s.Id, ServiceVersion: s.GetMeta().GetVersion(), Spec: spec})
	return r.GetService(), err
}

func (a *app) serviceRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm SERVICE…", Aliases: []string{"remove"}, Short: "Remove services and their tasks", Args: arguments(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			return each(c.Context(), a, a.services(control), args, func(s *api.Service) error {
				_, err := control.RemoveService(c.Context(), &api.RemoveServiceRequest{ServiceId: s.Id})
				if err == nil {
					fmt.Fprintln(a.Out, s.Id)
				}
				return err
			})
		},
	}
}

func (a *app) serviceList() *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List services", Args: arguments(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			r, err := control.ListServices(c.Context(), &api.ListServicesRequest{})
			if err != nil {
				return err
			}
			slices.SortStableFunc(r.Services, func(x, y *api.Service) int { return strings.Compare(serviceName(x), serviceName(y)) })
			var counts map[string]*api.ListServiceStatusesResponse_ServiceStatus
			var problems map[string]string
			if !quiet && a.format == "table" && len(r.Services) > 0 {
				if counts, err = serviceCounts(c.Context(), control, r.Services); err != nil {
					return err
				}
				if problems, err = serviceProblems(c.Context(), control, r.Services, counts); err != nil {
					return err
				}
			}
			return list(a, quiet, r.Services, []column[*api.Service]{
				{"ID", (*api.Service).GetId},
				{"NAME", serviceName},
				{"MODE", serviceMode},
				{"REPLICAS", func(s *api.Service) string {
					return fmt.Sprintf("%d/%d", counts[s.Id].GetRunningTasks(), counts[s.Id].GetDesiredTasks())
				}},
				{"RUNS", func(s *api.Service) string { return shortened(workload(s.GetSpec().GetTask())) }},
				{"ERROR", func(s *api.Service) string { return problems[s.Id] }},
			})
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	return c
}

func serviceCounts(ctx context.Context, control api.ControlClient, services []*api.Service) (map[string]*api.ListServiceStatusesResponse_ServiceStatus, error) {
	ids := make([]string, len(services))
	for i, s := range services {
		ids[i] = s.Id
	}
	r, err := control.ListServiceStatuses(ctx, &api.ListServiceStatusesRequest{Services: ids})
	if err != nil {
		return nil, err
	}
	counts := make(map[string]*api.ListServiceStatusesResponse_ServiceStatus, len(ids))
	for _, s := range r.Statuses {
		counts[s.ServiceId] = s
	}
	return counts, nil
}

// serviceProblems is the newest error of each service that has fewer tasks
// running than it should.
func serviceProblems(ctx context.Context, control api.ControlClient, services []*api.Service, counts map[string]*api.ListServiceStatusesResponse_ServiceStatus) (map[string]string, error) {
	var short []string
	for _, s := range services {
		if counts[s.Id].GetRunningTasks() < counts[s.Id].GetDesiredTasks() {
			short = append(short, s.Id)
		}
	}
	if len(short) == 0 {
		return nil, nil
	}
	r, err := control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: short}})
	if err != nil {
		return nil, err
	}
	newest := map[string]*api.Task{}
	for _, t := range r.Tasks {
		seen, ok := newest[t.ServiceId]
		if taskProblem(t) != "" && (!ok || t.GetStatus().GetTimestamp().AsTime().After(seen.GetStatus().GetTimestamp().AsTime())) {
			newest[t.ServiceId] = t
		}
	}
	problems := map[string]string{}
	for id, t := range newest {
		problems[id] = taskProblem(t)
	}
	return problems, nil
}

func serviceMode(s *api.Service) string {
	switch s.GetSpec().GetMode().(type) {
	case *api.ServiceSpec_Replicated:
		return "replicated"
	case *api.ServiceSpec_Global:
		return "global"
	case *api.ServiceSpec_ReplicatedJob:
		return "replicated job"
	case *api.ServiceSpec_GlobalJob:
		return "global job"
	}
	return ""
}

// workload says what a task runs: its image, or its process and arguments.
func workload(spec *api.TaskSpec) string {
	if c := spec.GetContainer(); c != nil {
		return c.Image
	}
	if g := spec.GetGeneric(); g != nil {
		var p skep.ProcessSpec
		if g.GetPayload().UnmarshalTo(&p) == nil {
			return strings.Join(append([]string{p.Command}, p.Args...), " ")
		}
		return g.Kind
	}
	return ""
}

// shortened leaves room beside a long command; inspect shows all of it.
func shortened(text string) string {
	const most = 40
	if r := []rune(oneLine(text)); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

func (a *app) servicePs() *cobra.Command {
	var all, quiet bool
	c := &cobra.Command{
		Use: "ps SERVICE…", Short: "List the tasks of services", Args: arguments(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			var ids []string
			if err := each(c.Context(), a, a.services(control), args, func(s *api.Service) error {
				ids = append(ids, s.Id)
				return nil
			}); err != nil {
				return err
			}
			r, err := control.ListTasks(c.Context(), &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: ids}})
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
