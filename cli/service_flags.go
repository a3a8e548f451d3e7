package cli

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"skep/api"
	"skep/api/skep"
)

// specFlags are the flags of service create and update. Each one says how it
// changes a draft; apply runs those that were given, in the order of this list,
// so that what a task runs is known before how it runs.
type specFlags struct {
	set   *pflag.FlagSet
	flags []specFlag
}

type specFlag struct {
	name  string
	apply func(context.Context, *draft) error
}

func newSpecFlags(set *pflag.FlagSet) *specFlags {
	f := &specFlags{set: set}
	f.runtime()
	f.general()
	f.placement()
	f.lifecycle()
	f.files()
	return f
}

// define ties the value of a flag to what it changes.
func define[T any](f *specFlags, value *T, name string, apply func(*draft, T) error) {
	f.flags = append(f.flags, specFlag{name, func(_ context.Context, d *draft) error { return apply(d, *value) }})
}

func (f *specFlags) text(name, usage string, apply func(*draft, string) error) {
	define(f, f.set.String(name, "", usage), name, apply)
}

func (f *specFlags) texts(name, short, usage string, apply func(*draft, []string) error) {
	define(f, f.set.StringArrayP(name, short, nil, usage), name, apply)
}

func (f *specFlags) number(name string, value uint64, usage string, apply func(*draft, uint64) error) {
	define(f, f.set.Uint64(name, value, usage), name, apply)
}

func (f *specFlags) duration(name string, value time.Duration, usage string, apply func(*draft, *durationpb.Duration) error) {
	define(f, f.set.Duration(name, value, usage), name, func(d *draft, v time.Duration) error { return apply(d, durationpb.New(v)) })
}

func (f *specFlags) flag(name, usage string, apply func(*draft, bool) error) {
	define(f, f.set.Bool(name, false, usage), name, apply)
}

// apply changes d by every flag that was given, and by the arguments after "--".
func (f *specFlags) apply(ctx context.Context, d *draft, args []string) error {
	if f.set.Changed("image") && f.set.Changed("process") {
		return fmt.Errorf("--image and --process exclude each other: a task is a container or a process")
	}
	if f.set.Changed("mode") && f.set.Changed("replicas") {
		if mode, err := f.set.GetString("mode"); err == nil && mode != "replicated" {
			return fmt.Errorf("--replicas goes with --mode replicated only")
		}
	}
	for _, flag := range f.flags {
		if f.set.Changed(flag.name) {
			if err := flag.apply(ctx, d); err != nil {
				return fmt.Errorf("--%s: %w", flag.name, err)
			}
		}
	}
	if args != nil {
		if err := d.setArgs(args); err != nil {
			return err
		}
	}
	return d.pack()
}

// draft is a service spec on its way: the payload of a process is unpacked.
type draft struct {
	app     *app
	control api.ControlClient
	spec    *api.ServiceSpec
	process *skep.ProcessSpec
}

func newDraft(spec *api.ServiceSpec, a *app, control api.ControlClient) *draft {
	d := &draft{app: a, control: control, spec: spec}
	if spec.Task == nil {
		spec.Task = &api.TaskSpec{}
	}
	if spec.Annotations == nil {
		spec.Annotations = &api.Annotations{}
	}
	var p skep.ProcessSpec
	if g := spec.Task.GetGeneric(); g.GetKind() == processKind && g.GetPayload().UnmarshalTo(&p) == nil {
		d.process = &p
	}
	return d
}

const processKind = "process"

// pack puts the process back into the spec, with the secrets and configs that it
// names as references that the manager understands.
func (d *draft) pack() error {
	if d.process == nil {
		return nil
	}
	payload, err := anypb.New(d.process)
	if err != nil {
		return err
	}
	d.spec.Task.Runtime = &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: processKind, Payload: payload}}
	d.spec.Task.ResourceReferences = nil
	for kind, files := range map[api.ResourceType][]*skep.FileReference{api.ResourceType_SECRET: d.process.Secrets, api.ResourceType_CONFIG: d.process.Configs} {
		for _, file := range files {
			d.spec.Task.ResourceReferences = append(d.spec.Task.ResourceReferences, &api.ResourceReference{ResourceId: file.Id, ResourceType: kind})
		}
	}
	slices.SortFunc(d.spec.Task.ResourceReferences, func(x, y *api.ResourceReference) int { return strings.Compare(x.ResourceId, y.ResourceId) })
	return nil
}

func (d *draft) container() *api.ContainerSpec { return d.spec.Task.GetContainer() }

// onContainer changes the container, or says that only containers have that.
func onContainer[T any](change func(*api.ContainerSpec, T) error) func(*draft, T) error {
	return func(d *draft, v T) error {
		if d.container() == nil {
			return fmt.Errorf("only containers have that: it needs --image")
		}
		return change(d.container(), v)
	}
}

// onProcess changes the process, or says that only processes have that.
func onProcess[T any](change func(*skep.ProcessSpec, T) error) func(*draft, T) error {
	return func(d *draft, v T) error {
		if d.process == nil {
			return fmt.Errorf("only native processes have that: it needs --process")
		}
		return change(d.process, v)
	}
}

// onEither changes whichever of the two the task runs.
func onEither[T any](process func(*skep.ProcessSpec, T), container func(*api.ContainerSpec, T)) func(*draft, T) error {
	return func(d *draft, v T) error {
		switch {
		case d.process != nil:
			process(d.process, v)
		case d.container() != nil:
			container(d.container(), v)
		default:
			return fmt.Errorf("it needs --image or --process")
		}
		return nil
	}
}

func (d *draft) setArgs(args []string) error {
	return onEither(func(p *skep.ProcessSpec, v []string) { p.Args = v }, func(c *api.ContainerSpec, v []string) { c.Args = v })(d, args)
}

func (f *specFlags) runtime() {
	f.text("image", "run a container of this `IMAGE`", func(d *draft, image string) error {
		if d.container() == nil {
			// The files of the process go with it: a node is given what is referred to.
			d.process, d.spec.Task.ResourceReferences = nil, nil
			d.spec.Task.Runtime = &api.TaskSpec_Container{Container: &api.ContainerSpec{}}
		}
		d.container().Image = image
		return nil
	})
	f.text("process", "run this program, `CMD`, as a native process", func(d *draft, command string) error {
		if d.process == nil {
			d.process = &skep.ProcessSpec{}
		}
		d.process.Command = absolute(command)
		return nil
	})
	f.texts("args", "", "an argument `ARG`; those after -- do the same", func(d *draft, args []string) error { return d.setArgs(args) })
	f.texts("command", "", "replace the image's entry point by `CMD`", onContainer(func(c *api.ContainerSpec, v []string) error { c.Command = v; return nil }))
	f.texts("env", "e", "environment `NAME=VALUE`", onEither(
		func(p *skep.ProcessSpec, v []string) { p.Env = v }, func(c *api.ContainerSpec, v []string) { c.Env = v }))
	f.text("dir", "working directory `DIR`", onEither(
		func(p *skep.ProcessSpec, v string) { p.Directory = v }, func(c *api.ContainerSpec, v string) { c.Dir = v }))
	f.text("user", "run as `USER`, or USER:GROUP", onEither(
		func(p *skep.ProcessSpec, v string) { p.User = v }, func(c *api.ContainerSpec, v string) { c.User = v }))
	f.text("hostname", "host name `NAME` of the container", onContainer(func(c *api.ContainerSpec, v string) error { c.Hostname = v; return nil }))
	f.flag("tty", "give the container a terminal", onContainer(func(c *api.ContainerSpec, v bool) error { c.Tty = v; return nil }))
	f.flag("open-stdin", "keep standard input open", onContainer(func(c *api.ContainerSpec, v bool) error { c.OpenStdin = v; return nil }))
	f.flag("init", "run an init process in the container", onContainer(func(c *api.ContainerSpec, v bool) error { c.Init = wrapperspb.Bool(v); return nil }))
	define(f, f.set.Int64("oom-score-adj", 0, "how readily the kernel kills it, `N` from -1000 to 1000"), "oom-score-adj",
		onContainer(func(c *api.ContainerSpec, v int64) error { c.OomScoreAdj = v; return nil }))
	f.texts("ulimit", "", "limit `NAME=SOFT[:HARD]`", onContainer(func(c *api.ContainerSpec, v []string) (err error) {
		c.Ulimits, err = parseAll(v, parseUlimit)
		return err
	}))
}

// absolute makes a path that is relative to here absolute: the node starts the
// process in a directory of its own. A bare name stays, to be found in PATH there.
func absolute(command string) string {
	if !strings.ContainsRune(command, filepath.Separator) {
		return command
	}
	if path, err := exec.LookPath(command); err == nil {
		command = path
	}
	if path, err := filepath.Abs(command); err == nil {
		return path
	}
	return command
}

func (f *specFlags) general() {
	define(f, pairs(f.set, "label", "l", "label `KEY=VALUE`"), "label", func(d *draft, v map[string]string) error {
		d.spec.Annotations.Labels = v
		return nil
	})
	f.text("mode", "`MODE` is replicated or global (default replicated)", func(d *draft, v string) error {
		switch v {
		case "replicated":
			if d.spec.GetReplicated() == nil {
				d.spec.Mode = &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: 1}}
			}
		case "global":
			d.spec.Mode = &api.ServiceSpec_Global{Global: &api.GlobalService{}}
		default:
			return fmt.Errorf("no mode %q: choose replicated or global", v)
		}
		return nil
	})
	f.number("replicas", 1, "number `N` of tasks", func(d *draft, v uint64) error {
		if d.spec.GetReplicated() == nil {
			return fmt.Errorf("only replicated services have replicas")
		}
		d.spec.GetReplicated().Replicas = v
		return nil
	})
	f.texts("publish", "p", "port on the node `[PUBLISHED:]TARGET[/PROTOCOL]`; PUBLISHED 0 or none: any free one", func(d *draft, v []string) (err error) {
		d.endpoint().Ports, err = parseAll(v, parsePublish)
		return err
	})
	f.texts("ports", "", "the same as `NAME:TARGET[/PROTOCOL][:PUBLISHED]`, with a name", func(d *draft, v []string) (err error) {
		d.endpoint().Ports, err = parseAll(v, parsePort)
		return err
	})
	f.text("network", "attach the tasks to this `NETWORK`", func(d *draft, v string) error {
		d.spec.Task.Networks = []*api.NetworkAttachmentConfig{{Target: v}}
		return nil
	})
	f.text("log-driver", "log `DRIVER` of the tasks", func(d *draft, v string) error { d.logDriver().Name = v; return nil })
	define(f, pairs(f.set, "log-opt", "", "option `KEY=VALUE` of the log driver"), "log-opt", func(d *draft, v map[string]string) error {
		d.logDriver().Options = v
		return nil
	})
}

func (d *draft) endpoint() *api.EndpointSpec          { return orNew(&d.spec.Endpoint) }
func (d *draft) logDriver() *api.Driver               { return orNew(&d.spec.Task.LogDriver) }
func (d *draft) placement() *api.Placement            { return orNew(&d.spec.Task.Placement) }
func (d *draft) resources() *api.ResourceRequirements { return orNew(&d.spec.Task.Resources) }
func (d *draft) limits() *api.Resources               { return orNew(&d.resources().Limits) }
func (d *draft) reservations() *api.Resources         { return orNew(&d.resources().Reservations) }

func (f *specFlags) placement() {
	f.texts("constraint", "", "only nodes for which `EXPRESSION` holds: node.labels.zone==a", func(d *draft, v []string) error {
		d.placement().Constraints = v
		return nil
	})
	f.number("replicas-max-per-node", 0, "most tasks `N` on one node (0: no limit)", func(d *draft, v uint64) error {
		d.placement().MaxReplicas = v
		return nil
	})
	cpus := func(name, usage string, of func(*draft) *api.Resources) {
		f.text(name, usage, func(d *draft, v string) (err error) { of(d).NanoCpus, err = parseCPUs(v); return err })
	}
	memory := func(name, usage string, of func(*draft) *api.Resources) {
		f.text(name, usage, func(d *draft, v string) (err error) { of(d).MemoryBytes, err = parseBytes(v); return err })
	}
	cpus("cpu-limit", "most `CPUS` a task may use, 0.5", (*draft).limits)
	cpus("cpu-reservation", "`CPUS` that are kept free for a task, 0.5", (*draft).reservations)
	memory("memory-limit", "most memory `SIZE` a task may use, 512m", (*draft).limits)
	memory("memory-reservation", "memory `SIZE` that is kept free for a task, 512m", (*draft).reservations)
	f.text("generic-resources", "other resources `KIND=N` a task needs: fpga=2,gpu=1", func(d *draft, v string) (err error) {
		d.reservations().Generic, err = parseAll(strings.Split(v, ","), parseGeneric)
		return err
	})
}

func (d *draft) restart() *api.RestartPolicy {
	if d.spec.Task.Restart == nil {
		d.spec.Task.Restart = &api.RestartPolicy{Condition: api.RestartPolicy_ANY}
	}
	return d.spec.Task.Restart
}

func (f *specFlags) lifecycle() {
	f.text("restart-condition", "restart a task that ended when `CONDITION` is any, failure or none (default any)", func(d *draft, v string) error {
		condition, ok := map[string]api.RestartPolicy_RestartCondition{
			"any": api.RestartPolicy_ANY, "failure": api.RestartPolicy_ON_FAILURE, "on-failure": api.RestartPolicy_ON_FAILURE, "none": api.RestartPolicy_NONE}[v]
		if !ok {
			return fmt.Errorf("no condition %q: choose any, failure or none", v)
		}
		d.restart().Condition = condition
		return nil
	})
	f.duration("restart-delay", 5*time.Second, "wait for `TIME` before a restart", func(d *draft, v *durationpb.Duration) error { d.restart().Delay = v; return nil })
	f.number("restart-max-attempts", 0, "give up after `N` restarts (0: never)", func(d *draft, v uint64) error { d.restart().MaxAttempts = v; return nil })
	f.duration("restart-window", 0, "count restarts within `TIME` only (0: all)", func(d *draft, v *durationpb.Duration) error { d.restart().Window = v; return nil })
	f.updateConfig("update", func(d *draft) **api.UpdateConfig { return &d.spec.Update }, "pause, continue or rollback")
	f.updateConfig("rollback", func(d *draft) **api.UpdateConfig { return &d.spec.Rollback }, "pause or continue")
	f.text("stop-signal", "`SIGNAL` that asks a task to end (default SIGTERM)", onEither(
		func(p *skep.ProcessSpec, v string) { p.StopSignal = v }, func(c *api.ContainerSpec, v string) { c.StopSignal = v }))
	f.duration("stop-grace-period", 10*time.Second, "`TIME` it has before it is killed", onEither(
		func(p *skep.ProcessSpec, v *durationpb.Duration) { p.StopGrace = v }, func(c *api.ContainerSpec, v *durationpb.Duration) { c.StopGracePeriod = v }))
	f.duration("stop-delay", 0, "wait for `TIME` before the stop signal", onProcess(func(p *skep.ProcessSpec, v *durationpb.Duration) error { p.StopDelay = v; return nil }))
	f.health()
}

func (f *specFlags) updateConfig(name string, of func(*draft) **api.UpdateConfig, actions string) {
	block := func(d *draft) *api.UpdateConfig {
		if p := of(d); *p == nil {
			*p = &api.UpdateConfig{Parallelism: 1}
		}
		return *of(d)
	}
	f.number(name+"-parallelism", 0, "tasks `N` at once during "+name+" (0: all)", func(d *draft, v uint64) error { block(d).Parallelism = v; return nil })
	f.duration(name+"-delay", 0, "pause for `TIME` between tasks during "+name, func(d *draft, v *durationpb.Duration) error { block(d).Delay = v; return nil })
	f.text(name+"-on-failure", "`ACTION` when "+name+" fails: "+actions, func(d *draft, v string) error {
		action, ok := map[string]api.UpdateConfig_FailureAction{"pause": api.UpdateConfig_PAUSE, "continue": api.UpdateConfig_CONTINUE, "rollback": api.UpdateConfig_ROLLBACK}[v]
		if !ok || name == "rollback" && v == "rollback" {
			return fmt.Errorf("no action %q: choose %s", v, actions)
		}
		block(d).FailureAction = action
		return nil
	})
	f.text(name+"-order", "`ORDER` of "+name+": stop-first or start-first", func(d *draft, v string) error {
		order, ok := map[string]api.UpdateConfig_UpdateOrder{"stop-first": api.UpdateConfig_STOP_FIRST, "start-first": api.UpdateConfig_START_FIRST}[v]
		if !ok {
			return fmt.Errorf("no order %q: choose stop-first or start-first", v)
		}
		block(d).Order = order
		return nil
	})
}

// health keeps to native processes: a probe by HTTP or TCP has no words in the
// container's contract.
func (f *specFlags) health() {
	check := func(p *skep.ProcessSpec) *skep.HealthCheck {
		if p.Health == nil {
			p.Health = &skep.HealthCheck{}
		}
		return p.Health
	}
	f.text("health-cmd", "healthy when the shell command `CMD` exits with 0", onProcess(func(p *skep.ProcessSpec, v string) error {
		check(p).Probe = &skep.HealthCheck_Command{Command: &skep.CommandProbe{Argv: []string{"/bin/sh", "-c", v}}}
		return nil
	}))
	f.text("health-http", "healthy when a GET of `PATH` on the task's port succeeds", onProcess(func(p *skep.ProcessSpec, v string) error {
		check(p).Probe = &skep.HealthCheck_Http{Http: &skep.HTTPProbe{Path: v}}
		return nil
	}))
	f.flag("health-tcp", "healthy when the task's port accepts a connection", onProcess(func(p *skep.ProcessSpec, v bool) error {
		if v {
			check(p).Probe = &skep.HealthCheck_Tcp{Tcp: &skep.TCPProbe{}}
		}
		return nil
	}))
	f.duration("health-interval", 10*time.Second, "`TIME` between probes", onProcess(func(p *skep.ProcessSpec, v *durationpb.Duration) error { check(p).Interval = v; return nil }))
	f.duration("health-timeout", 5*time.Second, "longest `TIME` for a probe", onProcess(func(p *skep.ProcessSpec, v *durationpb.Duration) error { check(p).Timeout = v; return nil }))
	f.number("health-retries", 3, "`N` failures in a row make it unhealthy", onProcess(func(p *skep.ProcessSpec, v uint64) error {
		if v > math.MaxUint32 {
			return fmt.Errorf("%d is too many", v)
		}
		check(p).Retries = uint32(v)
		return nil
	}))
	f.duration("health-start-period", 0, "failures do not count for `TIME` after the start", onProcess(func(p *skep.ProcessSpec, v *durationpb.Duration) error { check(p).StartPeriod = v; return nil }))
}

func (f *specFlags) files() {
	f.dataRefs("secret", "secret `NAME[:FILE]` that the tasks read as a file", false, (*draft).setSecrets)
	f.dataRefs("config", "config `NAME[:FILE]` that the tasks read as a file", false, (*draft).setConfigs)
	mounts := func(name, usage string, kind api.Mount_Type, parse func(string) (*api.Mount, error)) {
		f.texts(name, "", usage, onContainer(func(c *api.ContainerSpec, v []string) error {
			made, err := parseAll(v, parse)
			c.Mounts = append(slices.DeleteFunc(c.Mounts, func(m *api.Mount) bool { return m.Type == kind }), made...)
			return err
		}))
	}
	mounts("bind", "mount a path of the node `SOURCE:TARGET`", api.Mount_BIND, parsePair(api.Mount_BIND))
	mounts("npipe", "mount a named pipe `SOURCE:TARGET`", api.Mount_NPIPE, parsePair(api.Mount_NPIPE))
	mounts("volume", "mount an anonymous volume at `TARGET`", api.Mount_VOLUME, func(v string) (*api.Mount, error) {
		return &api.Mount{Type: api.Mount_VOLUME, Target: v}, nil
	})
	mounts("tmpfs", "mount memory at `TARGET[:size=…,mode=…,ro]`", api.Mount_TMPFS, parseTmpfs)
}

// registerUpdateOnly adds the flags that change a list instead of replacing it.
func (f *specFlags) registerUpdateOnly(set *pflag.FlagSet) {
	f.dataRefs("add-secret", "add a secret `NAME[:FILE]`", true, (*draft).setSecrets)
	f.dataRefs("add-config", "add a config `NAME[:FILE]`", true, (*draft).setConfigs)
	f.texts("rm-secret", "", "remove a secret `NAME`", func(d *draft, names []string) error { return d.dropSecrets(names) })
	f.texts("rm-config", "", "remove a config `NAME`", func(d *draft, names []string) error { return d.dropConfigs(names) })
	f.texts("add-capability", "", "add a capability `CAP`", onContainer(func(c *api.ContainerSpec, v []string) error {
		c.CapabilityAdd = append(c.CapabilityAdd, v...)
		return nil
	}))
	f.texts("rm-capability", "", "drop a capability `CAP`", onContainer(func(c *api.ContainerSpec, v []string) error {
		c.CapabilityAdd = slices.DeleteFunc(c.CapabilityAdd, func(have string) bool { return slices.Contains(v, have) })
		c.CapabilityDrop = append(c.CapabilityDrop, v...)
		return nil
	}))
	add := pairs(set, "label-add", "", "add or change a label `KEY=VALUE`")
	define(f, add, "label-add", func(d *draft, add map[string]string) error {
		editLabels(&d.spec.Annotations.Labels, add, nil)
		return nil
	})
	f.texts("label-rm", "", "remove a label `KEY`", func(d *draft, remove []string) error {
		editLabels(&d.spec.Annotations.Labels, nil, remove)
		return nil
	})
}

func (f *specFlags) dataRefs(name, usage string, add bool, set func(*draft, context.Context, []string, bool) error) {
	value := f.set.StringArray(name, nil, usage)
	f.flags = append(f.flags, specFlag{name, func(ctx context.Context, d *draft) error { return set(d, ctx, *value, add) }})
}

func parseAll[T any](values []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for _, v := range values {
		made, err := parse(v)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	return out, nil
}
