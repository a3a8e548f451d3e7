package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

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
