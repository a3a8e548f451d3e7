package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"skep/api"
	"skep/api/skep"
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

// Check says what the machine lacks for a swarm in namespaces.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root, for network namespaces: run it as root")
	}
	for _, tool := range []string{"ip", "tc", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("this needs %s: install iproute2 and nftables", tool)
		}
	}
	name := fmt.Sprintf("skep%d-try", os.Getpid())
	if err := ip("netns", "add", name); err != nil {
		return fmt.Errorf("this needs network namespaces, which this machine does not give: %w", err)
	}
	if err := ip("netns", "exec", name, "nft", "add table inet skep"); err != nil {
		return errors.Join(fmt.Errorf("this needs nftables in the kernel: %w", err), ip("netns", "del", name))
	}
	return ip("netns", "del", name)
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

// Start runs a node's swarmd, in a process group of its own: Ctrl-C is for the test.
func (s *Swarm) Start(n *Node, flags ...string) error {
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command("ip", append([]string{"netns", "exec", n.space, filepath.Join(s.bin, "swarmd"), "--state-dir", n.state,
		"--hostname", n.Name, "--listen-control-api", n.Socket, "--listen-remote-api", n.Addr, "--stop-tasks"}, flags...)...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	ended := make(chan struct{})
	n.process, n.ended = c, ended
	go func() {
		defer close(ended)
		_ = c.Wait()
	}()
	return nil
}

// Kill ends a node's swarmd with SIGKILL and waits until it is gone.
func (n *Node) Kill() error {
	if err := n.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-n.ended
	return nil
}

// Stop has swarmd stand still until it gets SIGCONT; it returns when all its threads do.
func (n *Node) Stop() error {
	if err := n.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return eventually(context.Background(), time.Second, n.Name+" stands still", func(context.Context) error {
		stat, err := fields(n.process.Process.Pid)
		if err == nil && stat[0] != "T" {
			err = fmt.Errorf("its state is %s", stat[0])
		}
		return err
	})
}

// Signal sends swarmd, and nothing else, a signal: `ip netns exec` becomes it.
func (n *Node) Signal(s syscall.Signal) error {
	if err := n.process.Process.Signal(s); err != nil {
		return fmt.Errorf("send %s to %s: %w", s, n.Name, err)
	}
	return nil
}

// CutOff drops all that a node sends and gets, except to itself.
func (n *Node) CutOff() error {
	return n.filter("table inet skep { chain in { type filter hook input priority 0; iifname eth0 drop; }; " +
		"chain out { type filter hook output priority 0; oifname eth0 drop; }; }")
}

// Deafen drops all that a node gets, Silence all that it sends; the other way is open.
func (n *Node) Deafen() error {
	return n.filter("table inet skep { chain in { type filter hook input priority 0; iifname eth0 drop; }; }")
}

// Silence is the counterpart of Deafen.
func (n *Node) Silence() error {
	return n.filter("table inet skep { chain out { type filter hook output priority 0; oifname eth0 drop; }; }")
}

// Sever resets every connection of a node, and those that are tried until it is healed.
func (n *Node) Sever() error {
	return n.filter("table inet skep { chain in { type filter hook input priority 0; iifname eth0 meta l4proto tcp reject with tcp reset; }; " +
		"chain out { type filter hook output priority 0; oifname eth0 meta l4proto tcp reject with tcp reset; }; }")
}

// Narrow limits what a node gets to a rate as tc(8) writes it, "10mbit".
func (s *Swarm) Narrow(n *Node, rate string) error {
	return ip("netns", "exec", s.bridge, "tc", "qdisc", "add", "dev", n.wire, "root", "tbf", "rate", rate, "burst", "64kb", "latency", "200ms")
}

// Received is how many bytes a node got from others.
func (n *Node) Received() (int64, error) {
	out, err := exec.Command("ip", "netns", "exec", n.space, "cat", "/sys/class/net/eth0/statistics/rx_bytes").Output()
	if err != nil {
		return 0, fmt.Errorf("bytes that %s received: %w", n.Name, err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

// Move gives a machine another address, the last number of it.
func (n *Node) Move(last int) error {
	address := fmt.Sprintf("10.77.0.%d", last)
	n.Addr = address + ":" + port
	return errors.Join(
		ip("-n", n.space, "addr", "flush", "dev", "eth0"),
		ip("-n", n.space, "addr", "add", address+"/24", "dev", "eth0"),
	)
}

// Lose drops a share of the packets that a node gets, in percent.
func (n *Node) Lose(percent int) error {
	return n.filter(fmt.Sprintf("table inet skep { chain in { type filter hook input priority 0; "+
		"iifname eth0 numgen random mod 100 < %d drop; }; }", percent))
}

// Heal ends CutOff and Lose.
func (n *Node) Heal() error {
	return ip("netns", "exec", n.space, "nft", "delete table inet skep")
}

func (n *Node) filter(rules string) error {
	return ip("netns", "exec", n.space, "nft", rules)
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

// clear kills what still runs in a namespace: tasks of a swarmd that could not stop them.
func (n *Node) clear() error {
	for range 50 {
		out, err := exec.Command("ip", "netns", "pids", n.space).Output()
		pids := strings.Fields(string(out))
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, p := range pids {
			if pid, err := strconv.Atoi(p); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	return fmt.Errorf("processes in namespace %s do not end", n.space)
}

// Health is what a manager knows of the swarm.
func (n *Node) Health(ctx context.Context) (*skep.ClusterHealthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return skep.NewInsightClient(n.conn).ClusterHealth(ctx, &skep.ClusterHealthRequest{})
}

// Whole waits until every node is ready and every manager votes, is reached, and has
// the whole log.
func (s *Swarm) Whole(ctx context.Context, limit time.Duration) error {
	return eventually(ctx, limit, "all nodes are ready and all managers reachable", func(ctx context.Context) error {
		for _, n := range s.Nodes[:s.Managers] {
			h, err := n.Health(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			if int(h.Voters) != s.Managers || int(h.CanLose) != (s.Managers-1)/2 {
				return fmt.Errorf("%s says: %s (%d vote, it can lose %d)", n.Name, h.Verdict, h.Voters, h.CanLose)
			}
		}
		r, err := s.Nodes[0].clients().Control.ListNodes(ctx, &api.ListNodesRequest{})
		if err != nil {
			return err
		}
		ready := 0
		for _, n := range r.Nodes {
			if n.GetStatus().GetState() == api.NodeStatus_READY {
				ready++
			}
		}
		if ready != len(s.Nodes) {
			return fmt.Errorf("%d of %d nodes are ready", ready, len(s.Nodes))
		}
		return nil
	})
}

// Leader asks around who leads; except is not asked and does not count.
func (s *Swarm) Leader(ctx context.Context, except *Node) (*Node, error) {
	var leader *Node
	err := eventually(ctx, 30*time.Second, "a manager leads", func(ctx context.Context) error {
		for _, n := range s.Nodes[:s.Managers] {
			if n == except {
				continue
			}
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			r, err := n.clients().Local.Status(ctx, &skep.StatusRequest{})
			if err == nil && r.Leader {
				leader = n
				return nil
			}
		}
		return errors.New("none says that it leads")
	})
	return leader, err
}

// Deploy runs a service of examples/hello and waits until all of it runs.
func (s *Swarm) Deploy(ctx context.Context, name string, replicas int) error {
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, "swarmctl"), "--socket", s.Nodes[0].Socket, "service", "create", name,
		"--process", filepath.Join(s.bin, "hello"), "--replicas", strconv.Itoa(replicas), "--publish", "0:80").CombinedOutput()
	if err != nil {
		return fmt.Errorf("create service %s: %w: %s", name, err, out)
	}
	return nil
}

// Process is the process of a running task.
type Process struct {
	Pid   int32
	Began string // as the kernel has it: a number used again is another process
}

// Tasks returns the processes of all tasks by task ID. A task that does not run, or
// should not, is an error.
func (s *Swarm) Tasks(ctx context.Context, n *Node) (map[string]Process, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := n.clients().Control.ListTasks(ctx, &api.ListTasksRequest{})
	if err != nil {
		return nil, err
	}
	out := make(map[string]Process)
	for _, t := range r.Tasks {
		if t.GetStatus().GetState() != api.TaskState_RUNNING || t.DesiredState != api.TaskState_RUNNING {
			return nil, fmt.Errorf("task %s is %s and should be %s: %s %s", t.Id, t.GetStatus().GetState(), t.DesiredState, t.GetStatus().GetMessage(), t.GetStatus().GetErr())
		}
		p := Process{Pid: t.GetStatus().GetContainer().GetPid()}
		stat, err := fields(int(p.Pid))
		if err != nil {
			return nil, fmt.Errorf("the process of task %s: %w", t.Id, err)
		}
		const startTime = 19
		p.Began = stat[startTime]
		out[t.Id] = p
	}
	return out, nil
}

// fields returns what /proc says of a process after its name, which may hold spaces.
func fields(pid int) ([]string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])), nil
}

// LastLines returns the end of each manager's log.
func (s *Swarm) LastLines(count int) string {
	var out strings.Builder
	for _, n := range s.Nodes[:s.Managers] {
		log, err := os.ReadFile(n.log)
		if err != nil {
			continue
		}
		lines := slices.Collect(strings.Lines(string(log)))
		fmt.Fprintf(&out, "-- %s\n%s", n.Name, strings.Join(lines[max(0, len(lines)-count):], ""))
	}
	return out.String()
}

// ip runs ip to its end; its output is in the error.
func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// pause waits unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// eventually waits until f succeeds, at most for limit.
func eventually(ctx context.Context, limit time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("waited %v until %s: %w", limit, what, err)
		}
	}
}
