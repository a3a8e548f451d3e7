package process

import (
	"errors"

	"golang.org/x/sys/unix"
)

// killTree kills what is left below this process, which is the subreaper of it
// all, and returns when nothing is. reaped is told of every process that ended.
//
// Only children are killed: their pids cannot be used again before they are
// reaped here. Grandchildren become children when their parents are dead.
func killTree(reaped func(pid int, status unix.WaitStatus)) error {
	for {
		found, err := killChildren()
		if err != nil {
			return err
		}
		options := 0
		if found == 0 {
			options = unix.WNOHANG // a child that was just born: look again
		}
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, options, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case pid > 0:
			reaped(pid, status)
		}
	}
}

func killChildren() (found int, err error) {
	all, err := pids()
	if err != nil {
		return 0, err
	}
	self := unix.Getpid()
	for _, pid := range all {
		s, err := readStat(pid)
		if err != nil || s.ppid != self {
			continue // not ours, or ended in the meantime
		}
		found++
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return found, err
		}
	}
	return found, nil
}
