package process

import (
	"syscall"
	"time"
)

// plan is all that a parent is told, through a pipe on its stdin: nothing of a
// task's environment is written to disk.
type plan struct {
	Task      string
	Directory directory

	// Path is the program, Args its arguments with the name it is called by first.
	Path string
	Args []string
	Env  []string
	Dir  string
	User *account

	StopSignal syscall.Signal
	StopDelay  time.Duration
	StopGrace  time.Duration

	Holdings holdings
	// Reserved is how many descriptors after the report's keep ports from others.
	Reserved int
	Logs     logLimits
}

// logLimits bound what a task's output takes on disk.
type logLimits struct {
	// Size of one file in bytes, and how many there are at most.
	Size  int64
	Files int
}

// account is who a process runs as.
type account struct {
	UID, GID uint32
	Groups   []uint32
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.Groups}
}

// report is what a parent answers, once.
type report struct {
	// Run says who runs when there is no error.
	Run runRecord
	// Already: the task has a parent, or had one. This one does nothing.
	Already bool
	// Error says why the process was not started.
	Error string
}
