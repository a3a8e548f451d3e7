package process

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"skep/agent/exec"
)

// instance is a task that was started on this machine.
type instance struct {
	task string
	dir  directory
	run  runRecord
	// parent is nil when it was already gone: then there is nobody to stop.
	parent *handle
	// child: the parent is a child of this process.
	child bool

	// ended is closed when nothing is left of the task. From then on exit holds.
	ended chan struct{}
	exit  exitRecord
}

// load finds the task by what its directory says; nil if it was never started.
// The caller makes somebody watch it. An error beside an instance says what
// could not be cleared away.
func load(task string, dir directory) (*instance, error) {
	i := &instance{task: task, dir: dir, ended: make(chan struct{})}
	started, err := dir.read(runFile, &i.run)
	switch {
	case err != nil && !errors.Is(err, errDamaged):
		return nil, exec.Temporary(err)
	case (err != nil || !started) && locked(dir):
		return nil, beingStarted(task)
	case err != nil: // torn when the machine went down, and the task with it
		return i, errors.Join(err, i.tryConclude())
	case !started:
		return nil, nil
	}
	boot, err := bootID()
	if err != nil {
		return nil, exec.Temporary(err)
	}
	if was := i.run.Boot; was != "" && boot != "" && was != boot {
		i.run.Process = identity{} // its pid and session are a stranger's now
		return i, i.tryConclude()
	}
	i.parent, err = open(i.run.Parent)
	if errors.Is(err, errGone) {
		return i, i.tryConclude()
	}
	if err != nil {
		return nil, exec.Temporary(err)
	}
	if i.run.Process.Pid == 0 {
		i.parent.close()
		return nil, beingStarted(task)
	}
	return i, nil
}

// beingStarted is the moment in which an agent died while it started a task.
func beingStarted(task string) error {
	return exec.Temporary(fmt.Errorf("task %s is just being started", task))
}

// locked reports whether a parent lives that has not said so yet.
func locked(dir directory) bool {
	file, err := os.Open(dir.path(lockFile))
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // gives the lock back too
	return errors.Is(unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// watch returns when the task has ended, or after an interrupt and when closing
// is closed: then the task goes on without us.
func (i *instance) watch(closing <-chan struct{}) error {
	if i.over() || i.parent != nil && !i.parent.wait() {
		return nil
	}
	if i.child {
		collect(i.run.Parent.Pid)
	}
	return i.settle(closing)
}

// Between tries to read how a task ended are pauses from firstRetry on, each
// twice the one before, up to lastRetry: a minute in all.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 32 * time.Second
)

// settle concludes, after some tries if need be: an agent that has run out of
// descriptors is no reason to call a task lost that is complete.
func (i *instance) settle(closing <-chan struct{}) error {
	for pause := firstRetry; ; pause *= 2 {
		err := i.conclude()
		if !errors.Is(err, errUnread) {
			return err
		}
		if pause > lastRetry {
			// The record stays: somebody may want to look at it.
			err = errors.Join(err, i.recover(err.Error()))
			close(i.ended)
			return err
		}
		select {
		case <-time.After(pause):
		case <-closing:
			return nil
		}
	}
}

// tryConclude is conclude that leaves it to settle if nothing can be said yet.
func (i *instance) tryConclude() error {
	if err := i.conclude(); !errors.Is(err, errUnread) {
		return err
	}
	return nil
}

// errUnread says that it is not known yet how a task ended.
var errUnread = errors.New("how it ended cannot be read")

// conclude says how the task ended, now that its parent is gone. With errUnread
// it has said nothing; another error says what could not be cleared away.
func (i *instance) conclude() error {
	recorded, err := i.dir.read(exitFile, &i.exit)
	if err != nil && !errors.Is(err, errDamaged) {
		return fmt.Errorf("%w: %w", errUnread, err)
	}
	if !recorded {
		err = errors.Join(err, i.recover("its parent process ended without a record: it was killed, or the machine restarted"))
		err = errors.Join(err, i.dir.write(exitFile, i.exit))
	}
	close(i.ended)
	return err
}

// recover does what a parent that was killed could not do, for a task that is
// lost by this cause.
func (i *instance) recover(cause string) error {
	i.exit = exitRecord{Lost: true, Time: time.Now(), Cause: cause}
	err := sweep(i.task, i.run.Process)
	if err != nil {
		i.exit.Cause += "; " + err.Error()
	}
	var held holdings
	_, unread := i.dir.read(holdingsFile, &held)
	return errors.Join(err, unread, held.release())
}

// err is how the task ended as Wait says it.
func (e exitRecord) err() error {
	switch {
	case e.Lost:
		return fmt.Errorf("task: exit code unknown: %s", e.Cause)
	case e.Code == 0:
		return nil
	case e.Cause != "":
		return &exec.ExitError{Code: e.Code, Cause: errors.New(e.Cause)}
	}
	return &exec.ExitError{Code: e.Code}
}
