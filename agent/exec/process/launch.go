package process

import (
	"errors"
	"fmt"
	"os"

	"skep/agent/exec"
	"skep/api"
)

// prepare checks all that can be checked before the start, and makes the
// directories. Nothing secret is written yet: the task may wait for long.
func (c *controller) prepare() error {
	task, spec := c.described()
	var held holdings
	if _, err := c.dir.read(holdingsFile, &held); err != nil {
		return err
	}
	person, err := findPerson(spec.GetUser())
	if err != nil {
		return err
	}
	if err := os.Mkdir(string(c.dir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the directory of the task: %w", err)
	}
	if spec.GetDirectory() == "" && held.Work == "" {
		if err := c.makeWork(&held, person); err != nil {
			return fmt.Errorf("make the working directory of the task: %w", err)
		}
	}
	r, err := resolve(task, spec, c.deps, c.dir, held)
	if err != nil {
		return err
	}
	_, err = references{spec: spec, deps: c.deps, data: r.data, env: r.env.list()}.load()
	return err
}

// makeWork makes the task's own working directory. Another user could not reach
// one in the agent's state directory.
func (c *controller) makeWork(held *holdings, owner person) error {
	if owner.account == nil {
		return os.MkdirAll(c.dir.path(workDir), 0o700)
	}
	dir, err := os.MkdirTemp("", "skep-work-")
	if err != nil {
		return err
	}
	held.Work = dir
	return errors.Join(owner.own(dir), c.dir.write(holdingsFile, held))
}

// launch starts the task. When it cannot, nothing of the attempt is left.
func (c *controller) launch() (*instance, error) {
	task, _ := c.described()
	var held holdings
	if _, err := c.dir.read(holdingsFile, &held); err != nil {
		return nil, err
	}
	r, err := c.start(task, &held)
	if err != nil {
		return nil, errors.Join(err, held.release(), c.dir.write(holdingsFile, holdings{Work: held.Work}))
	}
	if r.Already {
		i, err := c.executor.find(task.GetId())
		if err == nil && i == nil {
			err = fmt.Errorf("task %s has a parent already, but it left no record in %s", task.GetId(), c.dir)
		}
		return i, err
	}
	parent, err := open(r.Run.Parent)
	i := &instance{task: task.GetId(), dir: c.dir, run: r.Run, parent: parent, child: true, ended: make(chan struct{})}
	if errors.Is(err, errGone) {
		err = i.conclude() // it ended before it could be looked at
	}
	if err != nil {
		return nil, exec.Temporary(err) // it was started: the next try finds it
	}
	return c.executor.adopt(i)
}

// start makes what the task holds, and its parent. What is made is recorded
// first, so that a restarted agent finds it.
func (c *controller) start(task *api.Task, held *holdings) (report, error) {
	_, spec := c.described()
	e := c.executor
	var err error
	// An attempt that a dying agent began left its numbers and its files.
	wanted, taken := hostPorts(task), again(held.Ports)
	if len(taken) != len(wanted) {
		if taken, err = e.ports.take(wanted); err != nil {
			return report{}, err
		}
	}
	defer giveBack(taken) // the parent has its own hold on them
	held.Ports = nil
	for _, r := range taken {
		held.Ports = append(held.Ports, r.number)
	}
	if err := held.release(); err != nil {
		return report{}, err
	}
	person, err := findPerson(spec.GetUser())
	if err != nil {
		return report{}, err
	}
	if len(spec.GetSecrets())+len(spec.GetConfigs()) > 0 && held.Files == "" {
		held.Files = filesPath(e.config.FilesDir, c.dir, person)
	}
	limits := task.GetSpec().GetResources().GetLimits()
	held.Cgroups = e.limiter.cgroups(task.GetId(), limits.GetNanoCpus(), limits.GetMemoryBytes())

	r, err := resolve(task, spec, c.deps, c.dir, *held)
	if err != nil {
		return report{}, err
	}
	files, err := references{spec: spec, deps: c.deps, data: r.data, env: r.env.list()}.load()
	if err != nil {
		return report{}, err
	}
	if err := c.dir.write(holdingsFile, held); err != nil {
		return report{}, err
	}
	if held.Files != "" {
		if err := files.write(held.Files, r.person); err != nil {
			return report{}, fmt.Errorf("write secrets and configs: %w", err)
		}
	}
	if err := e.limiter.make(held.Cgroups, limits.GetNanoCpus(), limits.GetMemoryBytes()); err != nil {
		return report{}, fmt.Errorf("limit the task: %w", err)
	}
	plan, err := r.plan(task, c.dir, *held, logLimits{Size: e.config.LogSize, Files: e.config.LogFiles})
	if err != nil {
		return report{}, err
	}
	return spawn(plan, taken)
}

// health returns how to tell whether the task serves, nil if nobody asks.
func (c *controller) health() (*health, error) {
	task, spec := c.described()
	if spec.GetHealth() == nil {
		return nil, nil
	}
	var held holdings
	if _, err := c.dir.read(holdingsFile, &held); err != nil {
		return nil, err
	}
	r, err := resolve(task, spec, c.deps, c.dir, held)
	if err != nil {
		return nil, err
	}
	return newHealth(spec.GetHealth(), r.ports, r.command), nil
}
