package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"skep/agent/exec"
	"skep/api"
	"skep/api/skep"
	"skep/template"
)

// resolved is what a task's spec comes to on this node.
type resolved struct {
	spec   *skep.ProcessSpec // templates expanded
	data   template.Data
	person person
	env    environment
	ports  []*api.PortConfig
	path   string
	dir    string
}

// resolve expands the task's templates and finds user, directory and program.
// Ports and files are those of held.
func resolve(task *api.Task, spec *skep.ProcessSpec, deps exec.Dependencies, dir directory, held holdings) (*resolved, error) {
	r := &resolved{data: template.New(task, deps.Node()), ports: numbered(hostPorts(task), held.Ports)}
	var err error
	if r.spec, err = r.data.Process(spec); err != nil {
		return nil, err
	}
	if r.person, err = findPerson(r.spec.GetUser()); err != nil {
		return nil, err
	}
	r.env.inherit()
	if r.person.home != "" {
		r.env.set("HOME", r.person.home)
		r.env.set("USER", r.person.name)
	}
	r.env.identify(r.data)
	if held.Files != "" {
		if len(spec.GetSecrets()) > 0 {
			r.env.set("SKEP_SECRETS_DIR", filepath.Join(held.Files, secretsDir))
		}
		if len(spec.GetConfigs()) > 0 {
			r.env.set("SKEP_CONFIGS_DIR", filepath.Join(held.Files, configsDir))
		}
	}
	r.env.publish(r.ports)
	r.env.assign(task.GetAssignedGenericResources())
	r.env = append(r.env, r.spec.GetEnv()...)

	if r.dir, err = r.findDirectory(dir, held); err != nil {
		return nil, err
	}
	if r.path, err = findProgram(r.spec.GetCommand(), r.env.get("PATH"), r.dir); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *resolved) findDirectory(dir directory, held holdings) (string, error) {
	named := r.spec.GetDirectory()
	if named == "" {
		if held.Work != "" {
			return held.Work, nil
		}
		return dir.path(workDir), nil
	}
	if !filepath.IsAbs(named) {
		return "", fmt.Errorf("directory %q is not absolute; begin it with a slash, or leave it out for one of the task's own", named)
	}
	info, err := os.Stat(named)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no directory %s on this node; create it, name another, or leave it out for one of the task's own", named)
	}
	if err != nil {
		return "", fmt.Errorf("look at the directory of the task: %w", err)
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is no directory; name one, or leave it out for one of the task's own", named)
	}
	return named, nil
}

// findProgram returns the path of command: a name is looked up in path, a path
// is relative to dir.
func findProgram(command, path, dir string) (string, error) {
	if strings.ContainsRune(command, '/') {
		if !filepath.IsAbs(command) {
			command = filepath.Join(dir, command)
		}
		if err := executable(command); err != nil {
			return "", err
		}
		return command, nil
	}
	var refused error
	for _, place := range filepath.SplitList(path) {
		if !filepath.IsAbs(place) {
			continue // what is found must not depend on where the agent runs
		}
		candidate := filepath.Join(place, command)
		if _, err := os.Stat(candidate); err != nil {
			continue // not there, or not for us
		}
		err := executable(candidate)
		if err == nil {
			return candidate, nil
		}
		if refused == nil {
			refused = err
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", fmt.Errorf("command %q not found in PATH (%s); install it on this node, give its full path, or place the task on a node that has it", command, path)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("command not found: %w; install it on this node, or place the task on a node that has it", err)
	}
	if err != nil {
		return fmt.Errorf("look at the command: %w", err)
	}
	if info.IsDir() {
		return fmt.Errorf("command %s is a directory; name a program", path)
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("command %s is not executable (mode %v); make it so with chmod +x", path, info.Mode().Perm())
	}
	return nil
}

// plan returns what the task's parent is to be told.
func (r *resolved) plan(task *api.Task, dir directory, held holdings, logs logLimits) (plan, error) {
	signal, err := signalOf(r.spec)
	return plan{
		Task:       task.GetId(),
		Directory:  dir,
		Path:       r.path,
		Args:       append([]string{r.spec.GetCommand()}, r.spec.GetArgs()...),
		Env:        r.env.list(),
		Dir:        r.dir,
		User:       r.person.account,
		StopSignal: signal,
		StopDelay:  r.spec.GetStopDelay().AsDuration(),
		StopGrace:  durationOr(r.spec.GetStopGrace(), defaultGrace),
		Holdings:   held,
		Logs:       logs,
	}, err
}

// command returns a command in the surroundings of the task. It ends with the
// agent, should that be killed: nobody else would end it. (The kernel goes by the
// thread that started it; the agent's threads end with the agent, as no goroutine
// of it ends locked to one.)
func (r *resolved) command(ctx context.Context, argv []string) *osexec.Cmd {
	path, err := findProgram(argv[0], r.env.get("PATH"), r.dir)
	if err != nil {
		path = argv[0] // running it fails, and says so
	}
	cmd := osexec.CommandContext(ctx, path, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env = r.env.list()
	cmd.Dir = r.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: r.person.account.credential(), Pdeathsig: syscall.SIGKILL}
	return cmd
}
