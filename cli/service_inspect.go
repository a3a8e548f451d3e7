package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"skep/api"
	"skep/api/skep"
)

func (a *app) serviceInspect() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "inspect SERVICE", Short: "Show one service and its tasks", Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			control, err := a.control()
			if err != nil {
				return err
			}
			s, err := a.services(control).find(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := inspect(a, s, func(out *summary) { summarizeService(out, s) }); err != nil || a.format == "json" {
				return err
			}
			r, err := control.ListTasks(c.Context(), &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: []string{s.Id}}})
			if err != nil {
				return err
			}
			fmt.Fprintln(a.Out)
			return a.printTasks(c.Context(), control, current(r.Tasks, all), false)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also tasks that have ended")
	return c
}

func summarizeService(s *summary, svc *api.Service) {
	spec := svc.GetSpec()
	task := spec.GetTask()
	s.line("ID", svc.Id)
	s.line("Name", serviceName(svc))
	s.labels("Label", spec.GetAnnotations().GetLabels())
	s.line("Mode", serviceMode(svc))
	if r := spec.GetReplicated(); r != nil {
		s.linef("Replicas", "%d", r.Replicas)
	}
	if u := svc.UpdateStatus; u != nil {
		s.line("Update", strings.TrimSpace(title(u.State)+" "+u.Message))
	}
	s.line("Runs", workload(task))
	summarizeWorkload(s, task)
	for _, c := range task.GetPlacement().GetConstraints() {
		s.line("Constraint", c)
	}
	summarizeResources(s, "Reserved", task.GetResources().GetReservations())
	summarizeResources(s, "Limit", task.GetResources().GetLimits())
	summarizeRestart(s, task.GetRestart())
	for _, p := range spec.GetEndpoint().GetPorts() {
		s.line("Port", publication(p))
	}
}

func summarizeResources(s *summary, name string, r *api.Resources) {
	if r.GetNanoCpus() != 0 {
		s.linef(name+" CPUs", "%g", float64(r.NanoCpus)/1e9)
	}
	if r.GetMemoryBytes() != 0 {
		s.line(name+" memory", bytesText(r.MemoryBytes))
	}
	for _, g := range r.GetGeneric() {
		s.line(name+" resource", genericText(g))
	}
}

func summarizeRestart(s *summary, r *api.RestartPolicy) {
	if r == nil {
		return
	}
	text := strings.ReplaceAll(strings.ToLower(title(r.Condition)), "on failure", "failure")
	if r.Delay != nil {
		text += ", after " + r.Delay.AsDuration().String()
	}
	if r.MaxAttempts != 0 {
		text += fmt.Sprintf(", at most %d times", r.MaxAttempts)
	}
	if w := r.Window.AsDuration(); w != 0 {
		text += " within " + w.String()
	}
	s.line("Restart", text)
}

// summarizeWorkload says in what surroundings a task runs.
func summarizeWorkload(s *summary, task *api.TaskSpec) {
	var p skep.ProcessSpec
	if c := task.GetContainer(); c != nil {
		s.lines("Env", c.Env)
		for _, r := range c.Secrets {
			s.line("Secret", r.SecretName)
		}
		for _, r := range c.Configs {
			s.line("Config", r.ConfigName)
		}
	} else if task.GetGeneric().GetPayload().UnmarshalTo(&p) == nil {
		s.line("Directory", p.Directory)
		s.line("User", p.User)
		s.lines("Env", p.Env)
		for _, r := range p.Secrets {
			s.line("Secret", fileText(r))
		}
		for _, r := range p.Configs {
			s.line("Config", fileText(r))
		}
		s.line("Health", probeText(p.Health))
	}
}

// fileText names a secret or config, and its file if that is called otherwise.
func fileText(r *skep.FileReference) string {
	if r.Target == r.Name {
		return r.Name
	}
	return r.Name + " as " + r.Target
}

func probeText(h *skep.HealthCheck) string {
	switch {
	case h.GetHttp() != nil:
		return "GET " + h.GetHttp().Path
	case h.GetTcp() != nil:
		return "TCP connection"
	case h.GetCommand() != nil:
		return strings.Join(h.GetCommand().Argv, " ")
	}
	return ""
}

// publication says where a port is found: "web: 8080 → 80/tcp".
func publication(p *api.PortConfig) string {
	text := "any free one"
	if p.PublishedPort != 0 {
		text = strconv.FormatUint(uint64(p.PublishedPort), 10)
	}
	text += fmt.Sprintf(" → %d/%s", p.TargetPort, strings.ToLower(p.Protocol.String()))
	if p.Name != "" {
		text = p.Name + ": " + text
	}
	return text
}
