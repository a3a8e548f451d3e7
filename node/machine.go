package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"os"

	"skep/agent"
	"skep/agent/exec"
	"skep/agent/exec/process"
	"skep/rpc"
	"skep/vfs"
)

// dialTimeout bounds how long another machine may take to accept a connection.
const dialTimeout = 5 * time.Second

// Machine is what a node needs of the machine it runs on: a disk, a network, and
// something that runs tasks. Fields that are nil are those of the real one. A test
// gives each of its nodes a machine in memory.
type Machine struct {
	// FS is where the state directory is.
	FS vfs.FS
	// Lock makes the named file and holds it until what it returns is closed. Its
	// error says that another process does.
	Lock func(name string) (io.Closer, error)
	// ListenLocal listens on the socket of that path, ListenRemote on "host:port".
	// Both must offer SetDeadline, see rpc.Lend.
	ListenLocal, ListenRemote func(addr string) (net.Listener, error)
	// Dial connects: network is "tcp" or "unix".
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Executor runs tasks, in place of the one that Config.Executor names.
	Executor exec.Executor
	// Storage keeps the agent's tasks; nil is a database in the state directory.
	Storage agent.Storage
}

func (m Machine) withDefaults() Machine {
	if m.FS == nil {
		m.FS = vfs.OS()
	}
	if m.Lock == nil {
		m.Lock = lockFile
	}
	if m.ListenLocal == nil {
		m.ListenLocal = rpc.ListenLocal
	}
	if m.ListenRemote == nil {
		m.ListenRemote = rpc.ListenRemote
	}
	if m.Dial == nil {
		m.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return m
}

// lockFile locks a file of the machine, as long as it is open. The file stays
// when the lock is given up: removing it could unlock what somebody else has just
// locked.
func lockFile(name string) (io.Closer, error) {
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close() // it is not ours
		return nil, fmt.Errorf("state directory %s is in use by another swarmd; stop that one, or give this one a --state-dir of its own", filepath.Dir(name))
	}
	return lock, nil
}

// executor returns what runs the node's tasks.
func (n *node) executor() (exec.Executor, error) {
	switch {
	case n.machine.Executor != nil:
		return n.machine.Executor, nil
	case n.cfg.Executor == executorNone:
		return noExecutor{}, nil
	}
	return process.New(process.Config{
		Dir: n.dir.join(tasksDir), Hostname: n.cfg.Hostname, Version: n.cfg.Version, Generic: n.cfg.Generic, Log: n.cfg.Log,
	})
}

// openTasks opens what keeps the agent's tasks. close gives it up.
func (n *node) openTasks() (storage agent.Storage, close func() error, err error) {
	if n.machine.Storage != nil {
		return n.machine.Storage, func() error { return nil }, nil
	}
	if err := os.MkdirAll(n.dir.join(workerDir), 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the agent's directory: %w", err)
	}
	db, err := agent.OpenBolt(filepath.Join(n.dir.join(workerDir), tasksFile))
	if err != nil {
		return nil, nil, err
	}
	return db, db.Close, nil
}
