package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// sweepTime bounds how long a killed process may take to disappear.
const sweepTime = 5 * time.Second

// sweep kills what a task left whose parent is dead: what is in the session of
// its process, and what carries its ID in its environment. It returns when there
// is nothing of that kind.
func sweep(task string, process identity) error {
	marker := []byte(taskVariable + "=" + task)
	deadline := time.Now().Add(sweepTime)
	for {
		left, err := leftovers(marker, process)
		if err != nil || len(left) == 0 {
			return err
		}
		for _, h := range left {
			err = errors.Join(err, h.signal(syscall.SIGKILL))
		}
		for _, h := range left {
			if !h.waitUntil(deadline) {
				err = errors.Join(err, fmt.Errorf("kill what task %s left: it does not end", task))
			}
			h.close()
		}
		if err != nil {
			return err
		}
	}
}

// leftovers returns handles of the living processes of a task.
func leftovers(marker []byte, process identity) ([]*handle, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var found []*handle
	for _, pid := range all {
		if pid == os.Getpid() {
			continue
		}
		s, err := readStat(pid)
		if err != nil || !belongs(pid, s, marker, process) {
			continue
		}
		// Asked again with the process in hand: the pid may have changed owners.
		h, err := open(identity{Pid: pid, Start: s.start})
		if err == nil {
			found = append(found, h)
		}
	}
	return found, nil
}

// belongs reports whether a process is the task's. The session of process is a
// proof only for what started after it: before, the number was another's.
func belongs(pid int, s stat, marker []byte, process identity) bool {
	if s.state == 'Z' {
		return false
	}
	if process.Pid > 0 && s.session == process.Pid && s.start >= process.Start {
		return true
	}
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false // it is another user's, or has ended
	}
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(variable, marker) {
			return true
		}
	}
	return false
}
