package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// Ports that a task leaves to the node come from here: above the well-known
// ones, below 30000, where the cluster hands out its own, and below the range
// from which the kernel takes ports for connections.
const firstPort, lastPort = 20000, 29999

// hostPorts returns the ports that the task publishes on its node.
func hostPorts(task *api.Task) []*api.PortConfig {
	ports := task.GetEndpoint().GetPorts()
	if len(ports) == 0 {
		ports = task.GetEndpoint().GetSpec().GetPorts()
	}
	var host []*api.PortConfig
	for _, port := range ports {
		if port.GetPublishMode() == api.PortConfig_HOST {
			host = append(host, port)
		}
	}
	return host
}

// numbered returns ports with their numbers on this node.
func numbered(ports []*api.PortConfig, numbers []uint32) []*api.PortConfig {
	out := make([]*api.PortConfig, len(ports))
	for i, port := range ports {
		out[i] = proto.CloneOf(port)
		if i < len(numbers) {
			out[i].PublishedPort = numbers[i]
		}
	}
	return out
}

// ports hands out numbers. A number is reserved on the whole machine, so that
// two tasks cannot get the same before either listens, also from two agents: the
// reservation is a socket in the abstract namespace, which like a port belongs to
// the network namespace, and which the task's parent holds while it lives.
type ports struct{ next atomic.Uint32 }

// reservation is a number and the socket that keeps it from others.
type reservation struct {
	number uint32
	held   *os.File // nil for a number that was published
}

// take returns a number for each port: its own, or a free one.
func (p *ports) take(wanted []*api.PortConfig) ([]reservation, error) {
	var taken []reservation
	for _, port := range wanted {
		r := reservation{number: port.GetPublishedPort()}
		if r.number == 0 {
			var err error
			if r, err = p.takeFree(port.GetProtocol()); err != nil {
				giveBack(taken)
				return nil, err
			}
		}
		taken = append(taken, r)
	}
	return taken, nil
}

// again takes numbers that an attempt to start the task had before. Whoever
// holds one of them is the task's own parent.
func again(numbers []uint32) []reservation {
	taken := make([]reservation, len(numbers))
	for i, number := range numbers {
		held, err := reserve(number)
		taken[i] = reservation{number: number}
		if err == nil {
			taken[i].held = held
		}
	}
	return taken
}

// giveBack ends reservations, in this process.
func giveBack(taken []reservation) {
	for _, r := range taken {
		if r.held != nil {
			_ = r.held.Close()
		}
	}
}

// takeFree goes round, so that a number that was just given back is not given to
// another task at once.
func (p *ports) takeFree(protocol api.PortConfig_Protocol) (reservation, error) {
	const count = lastPort - firstPort + 1
	for range count {
		number := firstPort + p.next.Add(1)%count
		held, err := reserve(number)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return reservation{}, err
		}
		if free(number, protocol) {
			return reservation{number: number, held: held}, nil
		}
		_ = held.Close()
	}
	return reservation{}, fmt.Errorf("no free port from %d to %d on this node; stop what listens there, or publish a number of your own", firstPort, lastPort)
}

// reserve returns the socket that keeps number from other tasks.
func reserve(number uint32) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve port %d: %w", number, err)
	}
	held := os.NewFile(uintptr(fd), "port")
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@skep-port-%d", number)}); err != nil {
		return nil, errors.Join(fmt.Errorf("reserve port %d: %w", number, err), held.Close())
	}
	return held, nil
}

// free reports whether nobody uses the port, on any address.
func free(number uint32, protocol api.PortConfig_Protocol) bool {
	address := ":" + strconv.FormatUint(uint64(number), 10)
	if protocol == api.PortConfig_UDP {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
