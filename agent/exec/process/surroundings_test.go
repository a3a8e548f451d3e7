package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"skep/agent/exec"
	"skep/agent/exec/exectest"
	"skep/agent/exec/process"
	"skep/api"
	"skep/api/skep"
)

func TestAProcessIsToldWhatItIs(t *testing.T) {
	t.Parallel()
	spec := running("environ", "{{.Service.Name}}.{{.Task.Slot}}@{{.Node.Hostname}}")
	spec.Env = []string{"GREETING=hello from {{.Task.ID}}", "LANG=tlh", "PORT_ADMIN=7"}
	task := taskOf(newID(), spec)
	task.Endpoint = &api.Endpoint{Ports: []*api.PortConfig{
		{Name: "http", TargetPort: 80, PublishMode: api.PortConfig_HOST},
		{TargetPort: 90, PublishMode: api.PortConfig_INGRESS, PublishedPort: 90},
		{TargetPort: 53, Protocol: api.PortConfig_UDP, PublishMode: api.PortConfig_HOST},
		{Name: "ad-min", PublishedPort: 8081, PublishMode: api.PortConfig_HOST},
	}}
	task.AssignedGenericResources = []*api.GenericResource{
		{Resource: &api.GenericResource_NamedResourceSpec{NamedResourceSpec: &api.NamedGenericResource{Kind: "gpu", Value: "U1"}}},
		{Resource: &api.GenericResource_NamedResourceSpec{NamedResourceSpec: &api.NamedGenericResource{Kind: "gpu", Value: "U2"}}},
		{Resource: &api.GenericResource_DiscreteResourceSpec{DiscreteResourceSpec: &api.DiscreteGenericResource{Kind: "fpga", Value: 2}}},
	}
	m := newMachine(t)
	c := start(t, m.open(t), task, exectest.Dependencies{})
	if err := c.Wait(t.Context()); err != nil {
		t.Fatalf("wait: %v", err)
	}
	status, err := c.(exec.PortStatuser).PortStatus(t.Context())
	if err != nil || len(status.GetPorts()) != 3 {
		t.Fatalf("port status: got %v, %v; want the three ports in host mode", status, err)
	}
	ports := status.GetPorts()
	for _, port := range ports[:2] {
		if port.GetPublishedPort() < 20000 || port.GetPublishedPort() > 29999 {
			t.Errorf("port %d was chosen, want one from 20000 to 29999", port.GetPublishedPort())
		}
	}
	if ports[2].GetPublishedPort() != 8081 || ports[2].GetName() != "ad-min" {
		t.Errorf("the published port is %v, want it as it was", ports[2])
	}
	contains(t, lines(t, c, ""),
		"web.2@host1",
		"GREETING=hello from "+task.GetId(), "LANG=tlh", "PORT_ADMIN=7",
		"SKEP_TASK_ID="+task.GetId(), "SKEP_TASK_NAME=web.2."+task.GetId(), "SKEP_TASK_SLOT=2",
		"SKEP_SERVICE_ID=service1", "SKEP_SERVICE_NAME=web", "SKEP_NODE_ID=node1", "SKEP_NODE_HOSTNAME=host1",
		fmt.Sprint("PORT=", ports[0].GetPublishedPort()), fmt.Sprint("PORT_HTTP=", ports[0].GetPublishedPort()),
		fmt.Sprint("PORT_53=", ports[1].GetPublishedPort()), "PORT_AD_MIN=8081",
		"DOCKER_RESOURCE_GPU=U1,U2", "DOCKER_RESOURCE_FPGA=2",
		"cwd="+filepath.Join(m.config.Dir, task.GetId(), "work"),
	)
}

func TestNothingElseOfTheAgentsEnvironmentIsPassedOn(t *testing.T) {
	t.Setenv("SWARM_UNLOCK_KEY", "secret")
	c := start(t, newMachine(t).open(t), taskOf(newID(), running("environ")), exectest.Dependencies{})
	for _, line := range lines(t, c, "") {
		for _, name := range []string{"SWARM_", "GOMAXPROCS", "GOGC"} {
			if strings.HasPrefix(line, name) {
				t.Errorf("the process sees %q", line)
			}
		}
	}
}

func TestTwoTasksNeverGetTheSamePort(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	behaviour := exectest.Behaviour{Port: true}
	seen := make(map[uint32]bool)
	e := m.open(t)
	for n := range 6 {
		if n == 3 {
			e = m.open(t) // that does not know of the first three
		}
		c := start(t, e, m.Task(t, behaviour), exectest.Dependencies{})
		status, err := c.(exec.PortStatuser).PortStatus(t.Context())
		if err != nil || len(status.GetPorts()) != 1 {
			t.Fatalf("port status: %v, %v", status, err)
		}
		port := status.GetPorts()[0].GetPublishedPort()
		if seen[port] {
			t.Errorf("port %d was given twice", port)
		}
		seen[port] = true
	}
}

func TestSecretsAndConfigsAreFilesWhileTheTaskRuns(t *testing.T) {
	t.Parallel()
	spec := running("files")
	spec.Secrets = []*skep.FileReference{
		{Id: "s1", Name: "password"},
		{Id: "s2", Name: "key", Target: "tls/key.pem", Mode: 0o440},
	}
	spec.Configs = []*skep.FileReference{{Id: "c1", Name: "app.conf", Mode: 0o644}}
	deps := exectest.Dependencies{
		Secrets: map[string]*api.Secret{
			"s1": {Spec: &api.SecretSpec{Data: []byte("hunter2")}},
			"s2": {Spec: &api.SecretSpec{Data: []byte("PEM")}},
		},
		Configs: map[string]*api.Config{
			"c1": {Spec: &api.ConfigSpec{
				Data:       []byte(`slot {{.Task.Slot}} {{secret "password"}} {{env "SKEP_SERVICE_NAME"}}`),
				Templating: &api.Driver{Name: "golang"},
			}},
		},
	}
	for where, dir := range map[string]string{"in memory": "", "where they are told to lie": t.TempDir()} {
		m := newMachine(t)
		m.config.FilesDir = dir
		c := start(t, m.open(t), taskOf(newID(), spec), deps)
		output := lines(t, c, "ready")
		contains(t, output,
			"-r-------- password hunter2",
			"-r--r----- key.pem PEM",
			"-rw-r--r-- app.conf slot 2 hunter2 web",
		)
		secrets := directoryOf(t, output, "/secrets")
		if description, err := m.open(t).Describe(t.Context()); err != nil {
			t.Fatal(err)
		} else if label := description.GetEngine().GetLabels()[process.LabelSecrets]; where == "in memory" && strings.HasPrefix(label, "memory: ") && strings.HasPrefix(secrets, m.config.Dir) {
			t.Errorf("secrets lie in %s, the node says %q", secrets, label)
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Fatalf("shutdown: %v", err)
		}
		if _, err := os.Stat(filepath.Dir(secrets)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %s outlived the task: %v", where, secrets, err)
		}
	}
}

// directoryOf returns the directory, of mode 0700, that ends in suffix.
func directoryOf(t *testing.T, output []string, suffix string) string {
	t.Helper()
	for _, line := range output {
		if path, ok := strings.CutPrefix(line, "drwx------ "); ok && strings.HasSuffix(path, suffix) {
			return path
		}
	}
	t.Fatalf("no directory %s of mode 0700 in %q", suffix, output)
	return ""
}

func TestSecretsGoWhenTheTaskEndsWithoutAnAgentOrParent(t *testing.T) {
	t.Parallel()
	spec := running("files")
	spec.Secrets = []*skep.FileReference{{Id: "s1", Name: "password"}}
	spec.Configs = []*skep.FileReference{{Id: "c1", Name: "conf"}}
	deps := exectest.Dependencies{
		Secrets: map[string]*api.Secret{"s1": {}},
		Configs: map[string]*api.Config{"c1": {}},
	}
	c := start(t, newMachine(t).open(t), taskOf(newID(), spec), deps)
	secrets := directoryOf(t, lines(t, c, "ready"), "/secrets")
	parent, err := os.FindProcess(parentOf(t, pidOf(t, c)))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(t.Context()); err == nil {
		t.Error("wait: got no error, want that the parent was killed")
	}
	if _, err := os.Stat(secrets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s outlived the task: %v", secrets, err)
	}
}

func TestASecretThatMayStillArriveIsWaitedFor(t *testing.T) {
	t.Parallel()
	spec := running("files")
	spec.Secrets = []*skep.FileReference{{Id: "s1", Name: "password"}}
	e := newMachine(t).open(t)
	c, err := e.Controller(taskOf(newID(), spec), late{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Prepare(t.Context()); !exec.IsTemporary(err) {
		t.Errorf("prepare: got %v, want a temporary error", err)
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// late has nothing yet.
type late struct{ exectest.Dependencies }

func (late) Secret(string) (*api.Secret, error) {
	return nil, exec.Temporary(errors.New("it has not arrived"))
}

// Without the right to switch users the task is refused with what to do.
func TestATaskRunsAsTheUserThatItNames(t *testing.T) {
	t.Parallel()
	own, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	e := m.open(t)
	for _, text := range []string{own.Username, own.Uid, own.Uid + ":" + own.Gid} {
		spec := running("environ")
		spec.User = text
		c := start(t, e, taskOf(newID(), spec), exectest.Dependencies{})
		contains(t, lines(t, c, ""), "uid="+own.Uid+" gid="+own.Gid)
	}

	spec := running("environ")
	spec.User = "65432:65431"
	spec.Secrets = []*skep.FileReference{{Id: "s1", Name: "password"}}
	deps := exectest.Dependencies{Secrets: map[string]*api.Secret{"s1": {Spec: &api.SecretSpec{Data: []byte("x")}}}}
	c := control(t, e, taskOf(newID(), spec), deps)
	if os.Geteuid() != 0 {
		if err := c.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "run swarmd as root") {
			t.Errorf("prepare: got %v, want that this takes root", err)
		}
		return
	}
	for _, verb := range []exec.Verb{exec.Prepare, exec.Start, exec.Wait} {
		out := exec.Do(t.Context(), c, verb)
		if out.Err == nil {
			continue
		}
		// The binary of this test may lie where another user cannot reach it.
		if verb == exec.Start && strings.Contains(out.Err.Error(), "its user needs the right to execute it") {
			return
		}
		t.Fatalf("%v: %v", verb, out.Err)
	}
	output := lines(t, c, "")
	contains(t, output, "uid=65432 gid=65431")
	if slices.Contains(output, "cwd="+m.config.Dir) {
		t.Errorf("its directory is in the agent's: %q", output)
	}
}

func TestWhatCannotRunIsRefusedBeforeItStarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*skep.ProcessSpec)) *skep.ProcessSpec {
		spec := running("run")
		change(spec)
		return spec
	}
	for want, spec := range map[string]*skep.ProcessSpec{
		`command "nosuchcommand" not found in PATH`: {Command: "nosuchcommand"},
		"command not found: stat /no/such/command":  {Command: "/no/such/command"},
		"is not executable (mode -rw-r--r--)":       {Command: plain},
		"is a directory; name a program":            {Command: dir},
		"no user \"nosuchuser\" on this node":       with(func(s *skep.ProcessSpec) { s.User = "nosuchuser" }),
		"name a group too, as in 64321:64321":       with(func(s *skep.ProcessSpec) { s.User = "64321" }),
		"no group \"nosuchgroup\" on this node":     with(func(s *skep.ProcessSpec) { s.User = "0:nosuchgroup" }),
		"no directory /no/such/dir on this node":    with(func(s *skep.ProcessSpec) { s.Directory = "/no/such/dir" }),
		"is not absolute; begin it with a slash":    with(func(s *skep.ProcessSpec) { s.Directory = "relative" }),
		plain + " is no directory":                  with(func(s *skep.ProcessSpec) { s.Directory = plain }),
		"argument 3: expand":                        with(func(s *skep.ProcessSpec) { s.Args = append(s.Args, "{{.Nothing}}") }),
		"secret nosecret is not among the task's":   with(func(s *skep.ProcessSpec) { s.Secrets = []*skep.FileReference{{Id: "nosecret", Name: "x"}} }),
		"config noconfig is not among the task's":   with(func(s *skep.ProcessSpec) { s.Configs = []*skep.FileReference{{Id: "noconfig", Name: "x"}} }),
	} {
		c := control(t, newMachine(t).open(t), taskOf(newID(), spec), exectest.Dependencies{})
		err := c.Prepare(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || exec.IsTemporary(err) {
			t.Errorf("prepare: got %v, want %q", err, want)
		}
	}
}

func TestWhatDescribesNoProcessHasNoController(t *testing.T) {
	t.Parallel()
	e := newMachine(t).open(t)
	with := func(change func(*skep.ProcessSpec)) *api.Task {
		spec := running("run")
		change(spec)
		return taskOf(newID(), spec)
	}
	for want, task := range map[string]*api.Task{
		"unsupported runtime container": {Id: "a", Spec: &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{}}}},
		"unsupported runtime (none)":    {Id: "a"},
		`unsupported runtime "plugin"`:  {Id: "a", Spec: &api.TaskSpec{Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "plugin"}}}},
		"decode the process spec":       {Id: "a", Spec: &api.TaskSpec{Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "process"}}}},
		"cannot be the name":            {Id: "../etc"},
		"has no command":                with(func(s *skep.ProcessSpec) { s.Command = "" }),
		"contains a zero byte":          with(func(s *skep.ProcessSpec) { s.Args = []string{"a\x00b"} }),
		`no signal "SIGNOTHING"`:        with(func(s *skep.ProcessSpec) { s.StopSignal = "SIGNOTHING" }),
		"no name of a file below":       with(func(s *skep.ProcessSpec) { s.Secrets = []*skep.FileReference{{Target: "../x"}} }),
		"another file of this task":     with(func(s *skep.ProcessSpec) { s.Configs = []*skep.FileReference{{Target: "x"}, {Name: "./x"}} }),
		"has no port to probe": with(func(s *skep.ProcessSpec) {
			s.Health = &skep.HealthCheck{Probe: &skep.HealthCheck_Tcp{Tcp: &skep.TCPProbe{}}}
		}),
		"does not begin with a slash": with(func(s *skep.ProcessSpec) {
			s.Health = &skep.HealthCheck{Probe: &skep.HealthCheck_Http{Http: &skep.HTTPProbe{Path: "x"}}}
		}),
		"the command is empty": with(func(s *skep.ProcessSpec) {
			s.Health = &skep.HealthCheck{Probe: &skep.HealthCheck_Command{Command: &skep.CommandProbe{}}}
		}),
	} {
		if c, err := e.Controller(task, exectest.Dependencies{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want %q", c, err, want)
		}
	}
}

func TestAProgramThatTheKernelRefusesSaysSo(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script")
	for content, want := range map[string]string{
		"echo no interpreter\n":  "a script without a first line such as #!/bin/sh",
		"#!/no/such/interpreter": "the interpreter that its first line names, does not exist",
	} {
		if err := os.WriteFile(script, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		task := taskOf(newID(), &skep.ProcessSpec{Command: script})
		c := control(t, newMachine(t).open(t), task, exectest.Dependencies{})
		if err := c.Prepare(t.Context()); err != nil {
			t.Fatalf("prepare: %v", err)
		}
		for range 2 { // it leaves nothing that would make the second try different
			if err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("start: got %v, want %q", err, want)
			}
		}
		if err := c.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	}
}

func TestTheNodeSaysWhatItOffers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.config.Hostname, m.config.Version = "named", "v1"
	description, err := m.open(t).Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if description.GetHostname() != "named" || description.GetEngine().GetEngineVersion() != "v1" {
		t.Errorf("got %v, want the hostname and the version of the configuration", description)
	}
	plugins := description.GetEngine().GetPlugins()
	if len(plugins) != 1 || plugins[0].GetType() != "Runtime" || plugins[0].GetName() != "process" {
		t.Errorf("plugins: got %v, want Runtime process", plugins)
	}
	for _, label := range []string{process.LabelLimits, process.LabelSecrets} {
		if description.GetEngine().GetLabels()[label] == "" {
			t.Errorf("label %s is missing: %v", label, description.GetEngine().GetLabels())
		}
	}
}

func TestAnExecutorNeedsADirectoryThatItCanMake(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := process.New(process.Config{Dir: filepath.Join(file, strconv.Itoa(1))}); err == nil {
		t.Error("got no error")
	}
}
