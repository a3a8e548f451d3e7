package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/api"
	"skep/ca"
)

// executors are the values of Config.Executor that make sense.
const (
	executorProcess = "process"
	executorDocker  = "docker"
	executorNone    = "none"
)

// Config says what a node is. StateDir, Socket, Listen and Executor are required.
type Config struct {
	// StateDir holds everything that the node keeps.
	StateDir string
	// Socket is the path of the control API's unix socket.
	Socket string
	// Listen is the address that a manager listens on, "host:port"; port 0 is any.
	Listen string
	// Advertise is the address that other nodes reach a manager at; empty is the
	// default route's source address, else loopback.
	Advertise string
	// JoinAddr and JoinToken are for the first start of a node that joins a swarm. At a later
	// one JoinAddr is one more place to look for managers at, which may have moved, and needs no
	// token.
	// Without them, and without an identity from an earlier start, it founds one.
	JoinAddr, JoinToken string
	// UnlockKey opens what a locked manager has on disk. Without it a locked manager waits
	// until somebody hands it the key.
	UnlockKey ca.UnlockKey
	// AutoLock locks the managers of a swarm that this node founds. Any manager then
	// tells the key to whoever may ask for it.
	AutoLock bool
	// ForceNewCluster makes this manager the only one of its swarm, which keeps everything
	// else: for when most managers are lost for good. It acts once: it is ignored, and said to be, as
	// long as the state directory has the file that notes when it did.
	ForceNewCluster bool
	// Availability is what the node asks for when it joins or founds.
	Availability api.NodeSpec_Availability
	// Hostname is what the node calls itself; empty is the machine's name.
	Hostname string
	// Generic are resources beside CPU and memory.
	Generic []*api.GenericResource
	// Executor is what runs tasks: "process" or "none".
	Executor string
	// StopTasks stops the node's tasks when Run ends. Otherwise they run on.
	StopTasks bool
	// ListenMetrics and ListenDebug serve metrics and profiles over HTTP; empty is nowhere.
	ListenMetrics, ListenDebug string
	// Version is what the node says it runs.
	Version string
	// Now is the wall clock of certificates and stored times; nil is time.Now.
	Now func() time.Time
	// Metrics takes and serves the node's metrics; nil means none.
	Metrics *prometheus.Registry
	// Log takes what an operator wants to know; nil discards.
	Log *slog.Logger
	// Machine is what the node runs on; the zero value is this machine.
	Machine Machine
}

// check refuses what cannot work, before anything is written or opened.
func (c Config) check() error {
	switch c.Executor {
	case executorProcess, executorNone:
	case executorDocker:
		return errors.New("--executor docker is not in this version yet: use --executor process, or none for a node that runs no tasks")
	default:
		return fmt.Errorf("--executor %q: choose process, docker or none", c.Executor)
	}
	if _, _, err := net.SplitHostPort(c.JoinAddr); c.JoinAddr != "" && err != nil {
		return fmt.Errorf("--join-addr %q is not an address: write it HOST:PORT, such as 192.0.2.10:4242", c.JoinAddr)
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("--listen-remote-api %q is not an address: write it HOST:PORT, such as 0.0.0.0:4242", c.Listen)
	}
	return checkAdvertised(c.Advertise)
}
