package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// parentName is what a parent is called, in its arguments and in ps.
const parentName = "skep-task"

// What the agent tells a parent at any time: to stop the task as its plan says,
// or to kill it now.
const (
	signalStop = syscall.SIGTERM
	signalKill = syscall.SIGUSR1
)

// reportFD is where a parent writes its report.
const reportFD = 3

// IsParent reports whether this process was started to be the parent of a task.
// Every main whose binary makes an Executor asks it first:
//
//	if process.IsParent() {
//		os.Exit(process.ParentMain())
//	}
func IsParent() bool { return len(os.Args) == 2 && os.Args[0] == parentName }

// ParentMain is the life of a task's parent. It returns when nothing of the task
// is left, with the exit status of the parent itself.
func ParentMain() int {
	// The kernel kills the process when the thread that made it ends, not the
	// parent as a whole: this thread stays.
	runtime.LockOSThread()
	if err := parentMain(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func parentMain() error {
	// Before anything else, so that no signal is lost. None is ignored: that would
	// be passed on to the process. Children have a channel of their own, so that
	// however many end they crowd out no order.
	children, orders := make(chan os.Signal, 1), make(chan os.Signal, 16)
	signal.Notify(children, syscall.SIGCHLD)
	signal.Notify(orders, signalStop, signalKill, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR2)
	unix.CloseOnExec(reportFD)
	answer := os.NewFile(reportFD, "report")

	var plan plan
	if err := json.NewDecoder(os.Stdin).Decode(&plan); err != nil {
		return fmt.Errorf("read the plan: %w; this program is started by swarmd only", err)
	}
	for n := range plan.Reserved {
		unix.CloseOnExec(reportFD + 1 + n) // kept while this process lives
	}
	p := &parent{plan: plan, logs: &logWriter{dir: plan.Directory, limits: plan.Logs}}
	result := p.begin()
	err := errors.Join(json.NewEncoder(answer).Encode(result), answer.Close())
	if result.Already || result.Error != "" {
		return err
	}
	// The agent may be gone: then it learns from run.json.
	debug.FreeOSMemory()
	p.watch(children, orders)
	return p.finish()
}

// parent runs one task.
type parent struct {
	plan plan
	logs *logWriter
	copy sync.WaitGroup
	pipe []*os.File

	lock    *os.File
	pid     int
	status  unix.WaitStatus
	endedAt time.Time // zero while the process runs
	stage   stage
}

// stage is how far stopping the process has come.
type stage uint8

const (
	running stage = iota
	delayed       // waits for the stop delay
	asked         // has its signal, waits for the grace
	killed
)

// begin starts the process.
func (p *parent) begin() report {
	already, err := p.take()
	if already || err != nil {
		return reportOf(runRecord{}, already, err)
	}
	var run runRecord
	if err := p.prepare(&run); err != nil {
		return reportOf(run, false, err)
	}
	// run.json stands before the process does: whoever finds the process finds the
	// parent.
	err = p.plan.Directory.write(runFile, run)
	if err == nil {
		err = p.start()
	}
	if err != nil {
		return reportOf(run, false, errors.Join(err, p.undo()))
	}
	if run.Process, err = identityOf(p.pid); err == nil {
		err = p.plan.Directory.write(runFile, run)
	}
	if err != nil {
		return reportOf(run, false, errors.Join(err, killTree(p.reaped), p.undo()))
	}
	return reportOf(run, false, nil)
}

func reportOf(run runRecord, already bool, err error) report {
	r := report{Run: run, Already: already}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// take makes this the only parent that the task ever has.
func (p *parent) take() (already bool, err error) {
	lock, err := os.OpenFile(p.plan.Directory.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	p.lock = lock
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return p.plan.Directory.read(runFile, &runRecord{})
}

func (p *parent) prepare(run *runRecord) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	// A name for ps and top, which would show "exe".
	_ = os.WriteFile("/proc/self/comm", []byte(parentName), 0)
	var err error
	if run.Boot, err = bootID(); err != nil {
		return err
	}
	run.Parent, err = identityOf(os.Getpid())
	return err
}

// start starts the process, in its cgroups, with its output in pipes.
func (p *parent) start() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	files := []uintptr{null.Fd()}
	defer func() { _ = null.Close() }()
	for _, stream := range []string{stdout, stderr} {
		read, write, err := pipe()
		if err != nil {
			return fmt.Errorf("make a pipe: %w", err)
		}
		defer func() { _ = unix.Close(write) }()
		files = append(files, uintptr(write))
		p.pipe = append(p.pipe, read)
		p.copy.Go(func() { p.logs.copy(stream, read) })
	}
	groups := p.plan.Holdings.Cgroups
	if err := enter(groups); err != nil {
		return errors.Join(fmt.Errorf("enter the cgroup of the task: %w", err), leave(groups))
	}
	pid, err := syscall.ForkExec(p.plan.Path, p.plan.Args, &syscall.ProcAttr{
		Dir:   p.plan.Dir,
		Env:   p.plan.Env,
		Files: files,
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: p.plan.User.credential(),
			Pdeathsig:  syscall.SIGKILL,
		},
	})
	if left := leave(groups); left != nil {
		fmt.Fprintln(os.Stderr, "leave the cgroup of the task:", left)
	}
	if err != nil {
		return explainStart(p.plan, err)
	}
	p.pid = pid
	return nil
}

// pipe returns a pipe whose read end does not occupy a thread. The write end is
// a plain descriptor: the process expects one that blocks.
func pipe() (read *os.File, write int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, 0, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), fds[1], nil
}

func explainStart(plan plan, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("start %s in %s: %w; one of them, or the interpreter that its first line names, does not exist", plan.Path, plan.Dir, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("start %s in %s: %w; its user needs the right to execute it and to enter the directory", plan.Path, plan.Dir, err)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("start %s: %w; it is no program for this machine, or a script without a first line such as #!/bin/sh", plan.Path, err)
	}
	return fmt.Errorf("start %s: %w", plan.Path, err)
}

// undo leaves the task as if it had never been started.
func (p *parent) undo() error {
	p.drain()
	return os.Remove(p.plan.Directory.path(runFile))
}

// watch returns when the process has ended. If it was asked to, the rest of its
// group, which was asked too, has what is left of the grace: a shell ends sooner
// than what it started.
func (p *parent) watch(children, orders <-chan os.Signal) {
	var timer <-chan time.Time
	for p.reap(); !p.over(); p.reap() {
		select {
		case <-children:
		case order := <-orders:
			switch {
			case order == signalKill:
				p.kill()
			case order == signalStop && p.stage == running:
				p.stage = delayed
				timer = time.After(p.plan.StopDelay)
			}
		case <-timer:
			if p.stage == delayed {
				p.stage = asked
				p.signal(p.plan.StopSignal)
				timer = time.After(p.plan.StopGrace)
			} else {
				p.kill()
			}
		}
	}
}

func (p *parent) over() bool {
	return !p.endedAt.IsZero() && (p.stage != asked || errors.Is(unix.Kill(-p.pid, 0), unix.ESRCH))
}

func (p *parent) kill() {
	p.stage = killed
	p.signal(syscall.SIGKILL)
}

// signal sends a signal to the process group while its leader is not reaped, so
// that the number is its own.
func (p *parent) signal(s syscall.Signal) {
	if p.endedAt.IsZero() {
		_ = unix.Kill(-p.pid, s)
	}
}

// reap takes note of all children that have ended.
func (p *parent) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return
		default:
			p.reaped(pid, status)
		}
	}
}

func (p *parent) reaped(pid int, status unix.WaitStatus) {
	if pid == p.pid {
		p.status, p.endedAt = status, time.Now()
	}
}

// finish takes away what the process left, and records how it ended.
func (p *parent) finish() error {
	errs := []error{killTree(p.reaped)}
	p.drain()
	exit := exitOf(p.status)
	exit.Time = p.endedAt
	if exit.Code != 0 && ranOutOfMemory(p.plan.Holdings.Cgroups) {
		exit.Cause = "out of memory: it needed more than its limit; raise the limit of memory, or make it use less"
	}
	errs = append(errs, p.plan.Holdings.release(), p.plan.Directory.write(exitFile, exit))
	return errors.Join(errs...)
}

func exitOf(status unix.WaitStatus) exitRecord {
	if status.Signaled() {
		return exitRecord{
			Code:  128 + int(status.Signal()),
			Cause: fmt.Sprintf("ended by %s", unix.SignalName(status.Signal())),
		}
	}
	return exitRecord{Code: status.ExitStatus()}
}

// drain reads the rest of the output. All writers are dead; a descriptor that
// one of them gave away must not keep the parent here.
func (p *parent) drain() {
	for _, pipe := range p.pipe {
		_ = pipe.SetReadDeadline(time.Now().Add(time.Second))
	}
	p.copy.Wait()
	for _, pipe := range p.pipe {
		_ = pipe.Close()
	}
	p.logs.close()
}
