package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"skep/api"
	"skep/client"
)

// port is where every node listens, in the namespace of its own.
const port = "4242"

// Node is one swarmd in a network namespace.
type Node struct {
	Name, Socket, Addr string

	space string // the namespace's name
	state string
	log   string
	wire  string // its end of the cable is eth0, this one is at the switch
	conn  *grpc.ClientConn

	process *exec.Cmd
	ended   chan struct{} // closed when process was waited for
}

// Swarm is a set of nodes, each in a network namespace, joined by a bridge in one more.
type Swarm struct {
	Nodes    []*Node
	Managers int // the first of Nodes
	Dir      string

	bin    string
	bridge string // the namespace that holds the bridge
	prefix string
}

// numbers tells the swarms of one process apart.
var numbers atomic.Int64 //nolint:gochecknoglobals // namespaces are global too

// NewSwarm lays the cables: nothing runs yet. End it, also after an error.
func NewSwarm(bin string, managers, workers int) (*Swarm, error) {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	s := &Swarm{Managers: managers, Dir: dir, bin: bin, prefix: fmt.Sprintf("skep%d-%d", os.Getpid(), numbers.Add(1))}
	s.bridge = s.prefix + "-bridge"
	if err := errors.Join(
		ip("netns", "add", s.bridge),
		ip("-n", s.bridge, "link", "add", "br0", "type", "bridge"),
		ip("-n", s.bridge, "link", "set", "br0", "up"),
	); err != nil {
		return s, err
	}
	for i := range managers + workers {
		name := fmt.Sprintf("m%d", i+1)
		if i >= managers {
			name = fmt.Sprintf("w%d", i-managers+1)
		}
		if _, err := s.Add(name); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Add gives the swarm one more machine, on which nothing runs yet.
func (s *Swarm) Add(name string) (*Node, error) {
	n := &Node{
		Name: name, Socket: filepath.Join(s.Dir, name+".sock"), space: s.prefix + "-" + name,
		state: filepath.Join(s.Dir, name), log: filepath.Join(s.Dir, name+".log"), wire: "to-" + name,
	}
	address := fmt.Sprintf("10.77.0.%d", len(s.Nodes)+1)
	n.Addr = address + ":" + port
	s.Nodes = append(s.Nodes, n)
	for _, args := range [][]string{
		{"netns", "add", n.space},
		{"-n", s.bridge, "link", "add", n.wire, "type", "veth", "peer", "name", "eth0", "netns", n.space},
		{"-n", s.bridge, "link", "set", n.wire, "master", "br0", "up"},
		{"-n", n.space, "link", "set", "lo", "up"},
		{"-n", n.space, "addr", "add", address + "/24", "dev", "eth0"},
		{"-n", n.space, "link", "set", "eth0", "up"},
	} {
		if err := ip(args...); err != nil {
			return n, err
		}
	}
	conn, err := client.DialSocket(n.Socket)
	n.conn = conn
	return n, err
}

// Found starts all nodes and makes a swarm of them.
func (s *Swarm) Found(ctx context.Context) error {
	first := s.Nodes[0]
	if err := s.Start(first); err != nil {
		return err
	}
	var worker, manager string
	if err := eventually(ctx, time.Minute, "the first manager leads", func(ctx context.Context) error {
		r, err := first.clients().Control.ListClusters(ctx, &api.ListClustersRequest{})
		if err != nil {
			return err
		}
		if len(r.Clusters) != 1 {
			return errors.New("there is no cluster yet")
		}
		worker, manager = r.Clusters[0].GetRootCa().GetJoinTokens().GetWorker(), r.Clusters[0].GetRootCa().GetJoinTokens().GetManager()
		return nil
	}); err != nil {
		return err
	}
	for i, n := range s.Nodes[1:] {
		token := worker
		if i+1 < s.Managers {
			token = manager
		}
		if err := s.Start(n, "--join-addr", first.Addr, "--join-token", token); err != nil {
			return err
		}
	}
	return s.Whole(ctx, time.Minute)
}

func (n *Node) clients() client.Clients { return client.New(n.conn) }

// End stops and removes everything. The directory stays if keep is true.
func (s *Swarm) End(keep bool) error {
	var errs []error
	for _, n := range s.Nodes {
		if n.process != nil {
			_ = n.Signal(syscall.SIGCONT)
			_ = n.Signal(syscall.SIGTERM)
		}
	}
	patience := time.After(15 * time.Second)
	for _, n := range s.Nodes {
		if n.process != nil {
			select {
			case <-n.ended:
			case <-patience:
				_ = n.Signal(syscall.SIGKILL)
				<-n.ended
				patience = time.After(0)
			}
		}
		if n.conn != nil {
			errs = append(errs, n.conn.Close())
		}
		errs = append(errs, n.clear(), ip("netns", "del", n.space))
	}
	errs = append(errs, ip("netns", "del", s.bridge))
	for _, n := range s.Nodes {
		errs = append(errs, os.RemoveAll(n.state))
	}
	if !keep {
		errs = append(errs, os.RemoveAll(s.Dir))
	}
	return errors.Join(errs...)
}
