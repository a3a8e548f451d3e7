package model

import (
	"io/fs"
	"iter"
	"path"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/api/skep"
)

// ProcessKind is the kind of a GenericRuntimeSpec whose payload is a
// skep.v1.ProcessSpec: a native process.
const ProcessKind = "process"

const (
	minProbeDuration = time.Millisecond
	maxFileMode      = 0o777
)

// Process decodes the process that a task runs. It returns nil and no error when
// the task is something else, and an error of kind Invalid when the payload is
// not a ProcessSpec.
func Process(spec *api.TaskSpec) (*skep.ProcessSpec, error) {
	g := spec.GetGeneric()
	if g.GetKind() != ProcessKind {
		return nil, nil
	}
	p := &skep.ProcessSpec{}
	if !g.GetPayload().MessageIs(p) {
		return nil, Errorf(Invalid, "task.generic.payload has type %.200q: a process is described by a skep.v1.ProcessSpec; send one", g.GetPayload().GetTypeUrl())
	}
	if err := g.GetPayload().UnmarshalTo(p); err != nil {
		return nil, Errorf(Invalid, "task.generic.payload cannot be decoded as a skep.v1.ProcessSpec (%w); encode it again", err)
	}
	return p, nil
}

// checkProcess checks the process of a task and that what it reads stands among
// the task's resource references, which is where managers look.
func checkProcess(spec *api.TaskSpec) error {
	p, err := Process(spec)
	if err != nil {
		return err
	}
	if err := CheckWellFormed("process", p); err != nil {
		return err
	}
	if err := checkCommandLine(p); err != nil {
		return err
	}
	if s := p.GetStopSignal(); s != "" && !signal(s) {
		return Errorf(Invalid, "process.stop_signal %.80q is not a signal; write it as SIGTERM, SIGINT or SIGUSR1, or as a number", s)
	}
	if err := checkProcessFiles("secrets", p.GetSecrets(), SecretsOf(spec)); err != nil {
		return err
	}
	if err := checkProcessFiles("configs", p.GetConfigs(), ConfigsOf(spec)); err != nil {
		return err
	}
	return checkProbe(p.GetHealth())
}

func checkCommandLine(p *skep.ProcessSpec) error {
	if p.GetCommand() == "" {
		return Errorf(Invalid, "process.command is empty: nothing says what to run; give a program's path or name")
	}
	texts := append([]string{p.GetCommand(), p.GetDirectory(), p.GetUser()}, p.GetArgs()...)
	for _, text := range append(texts, p.GetEnv()...) {
		if strings.ContainsRune(text, 0) {
			return Errorf(Invalid, "process: %.80q holds a zero byte, which no command line can carry; take it out", text)
		}
	}
	for i, env := range p.GetEnv() {
		if name, _, ok := strings.Cut(env, "="); !ok || name == "" {
			return Errorf(Invalid, "process.env.%d is %.80q: a variable is written NAME=value; write it so", i, env)
		}
	}
	if user, group, colon := strings.Cut(p.GetUser(), ":"); p.GetUser() != "" &&
		(user == "" || colon && group == "" || strings.Contains(group, ":")) {
		return Errorf(Invalid, "process.user is %.80q: it is written user or user:group, by name or number; write it so", p.GetUser())
	}
	return nil
}

// checkProcessFiles checks that each file names a secret or config that the task
// refers to, stays below its directory and has a place of its own there.
func checkProcessFiles(field string, files []*skep.FileReference, references iter.Seq[Reference]) error {
	what := strings.TrimSuffix(field, "s")
	referred := make(map[string]bool)
	for r := range references {
		referred[r.ID] = true
	}
	taken := make(map[string]bool, len(files))
	for i, f := range files {
		if f.GetId() == "" || f.GetName() == "" {
			return Errorf(Invalid, "process.%s.%d is incomplete: a %s is referred to by ID and name; set both", field, i, what)
		}
		if !referred[f.GetId()] {
			return Errorf(Invalid, "process.%s.%d refers to %.80q, which is not among task.resource_references as a %s: managers look only there; add it", field, i, f.GetName(), what)
		}
		target := FileTarget(f)
		if !fs.ValidPath(target) || target == "." {
			return Errorf(Invalid, "process.%s.%d goes to %.200q: a file stays below the task's own directory; give a relative path without . and ..", field, i, target)
		}
		if taken[target] {
			return Errorf(Invalid, "process.%s.%d goes to %.200q, and so does another: one would hide the other; choose another target", field, i, target)
		}
		if f.GetMode() > maxFileMode {
			return Errorf(Invalid, "process.%s.%d has mode %#o: only permission bits count; give at most %#o", field, i, f.GetMode(), maxFileMode)
		}
		taken[target] = true
	}
	for target := range taken {
		for dir := path.Dir(target); dir != "."; dir = path.Dir(dir) {
			if taken[dir] {
				return Errorf(Invalid, "process.%s: %.200q is a file and a directory (of %.200q): it cannot be both; choose another target", field, dir, target)
			}
		}
	}
	return nil
}

// FileTarget is the file, below the directory of the task's secrets or configs,
// to which a process's reference goes.
func FileTarget(f *skep.FileReference) string {
	if f.GetTarget() != "" {
		return f.GetTarget()
	}
	return f.GetName()
}

func checkProbe(h *skep.HealthCheck) error {
	if h == nil {
		return nil
	}
	switch p := h.GetProbe().(type) {
	case *skep.HealthCheck_Command:
		if argv := p.Command.GetArgv(); len(argv) == 0 || argv[0] == "" {
			return Errorf(Invalid, "process.health.command.argv is empty: nothing says what to run; give a program and its arguments")
		}
	case *skep.HealthCheck_Http:
		if !strings.HasPrefix(p.Http.GetPath(), "/") {
			return Errorf(Invalid, "process.health.http.path is %.200q: a path starts with /; write it as /healthz", p.Http.GetPath())
		}
	case *skep.HealthCheck_Tcp:
	default:
		return Errorf(Invalid, "process.health has no probe: nothing says how to tell; set command, http or tcp")
	}
	if port := max(h.GetHttp().GetPort(), h.GetTcp().GetPort()); port > maxPort {
		return Errorf(Invalid, "process.health probes port %d: a port number is at most %d; give another", port, maxPort)
	}
	for _, d := range []struct {
		name  string
		value *durationpb.Duration
	}{{"interval", h.GetInterval()}, {"timeout", h.GetTimeout()}} {
		if v := d.value.AsDuration(); v != 0 && v < minProbeDuration {
			return Errorf(Invalid, "process.health.%s is %v: the shortest is %v; give that or more, or 0 for the default", d.name, v, minProbeDuration)
		}
	}
	return nil
}

// checkProbedPort checks that a probe of "the task's first port" has one. The
// payload was found good before.
func checkProbedPort(spec *api.ServiceSpec) error {
	p, err := Process(spec.GetTask())
	if err != nil {
		return err
	}
	http, tcp := p.GetHealth().GetHttp(), p.GetHealth().GetTcp()
	probes := http != nil && http.GetPort() == 0 || tcp != nil && tcp.GetPort() == 0
	if probes && len(spec.GetEndpoint().GetPorts()) == 0 {
		return Errorf(Invalid, "process.health probes the task's first port, and the service has no ports: publish one (endpoint.ports), or give the probe a port of its own")
	}
	return nil
}

// signal reports whether text is a signal: a name, with or without its SIG, in
// any case, or a number.
func signal(text string) bool {
	const highest = 64
	if n, err := strconv.Atoi(text); err == nil {
		return n > 0 && n <= highest
	}
	switch strings.TrimPrefix(strings.ToUpper(text), "SIG") {
	case "ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "KILL", "PIPE", "PROF", "PWR", "QUIT", "SEGV",
		"STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ":
		return true
	}
	return false
}
