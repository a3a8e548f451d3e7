package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"skep/api"
	"skep/api/skep"
)

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
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // what the end of time interrupts says nothing
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("waited %v until %s: %w", limit, what, last)
		}
	}
}
