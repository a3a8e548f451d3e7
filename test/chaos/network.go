package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

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
	var err error
	for _, try := range []struct {
		what string
		args []string
	}{
		{"bridges", []string{"-n", name, "link", "add", "br0", "type", "bridge"}},
		{"virtual cables", []string{"-n", name, "link", "add", "one", "type", "veth", "peer", "name", "other"}},
		{"limits of bandwidth", []string{"netns", "exec", name, "tc", "qdisc", "add", "dev", "one", "root", "tbf", "rate", "10mbit", "burst", "64kb", "latency", "200ms"}},
		{"nftables", []string{"netns", "exec", name, "nft", "add table inet skep"}},
	} {
		if failed := ip(try.args...); failed != nil {
			err = errors.Join(err, fmt.Errorf("this needs %s in the kernel: %w", try.what, failed))
		}
	}
	return errors.Join(err, ip("netns", "del", name))
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

// ip runs ip to its end; its output is in the error.
func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
