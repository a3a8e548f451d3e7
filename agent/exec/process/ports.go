package process

import (
	"fmt"
	"net"
	"strconv"
	"sync"

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

// portSet keeps two tasks from getting the same port before either listens.
type portSet struct {
	mu    sync.Mutex
	next  uint32
	taken map[uint32]string
}

// take returns a number for each port: its own, or a free one.
func (s *portSet) take(task string, ports []*api.PortConfig) ([]uint32, error) {
	numbers := make([]uint32, len(ports))
	for i, port := range ports {
		numbers[i] = port.GetPublishedPort()
		if numbers[i] != 0 {
			continue
		}
		number, err := s.takeFree(task, port.GetProtocol())
		if err != nil {
			s.release(task)
			return nil, err
		}
		numbers[i] = number
	}
	return numbers, nil
}

func (s *portSet) takeFree(task string, protocol api.PortConfig_Protocol) (uint32, error) {
	for range lastPort - firstPort + 1 {
		number := s.candidate(task)
		if number == 0 {
			continue
		}
		if free(number, protocol) {
			return number, nil
		}
		s.mu.Lock()
		delete(s.taken, number)
		s.mu.Unlock()
	}
	return 0, fmt.Errorf("no free port from %d to %d on this node; stop what listens there, or publish a number of your own", firstPort, lastPort)
}

// candidate takes the next number, 0 if it is taken already. Numbers go round,
// so that one that was just given back is not given to another at once.
func (s *portSet) candidate(task string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := firstPort + s.next%(lastPort-firstPort+1)
	s.next++
	if _, taken := s.taken[number]; taken {
		return 0
	}
	s.taken[number] = task
	return number
}

// hold takes numbers that a task has from before.
func (s *portSet) hold(task string, numbers []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, number := range numbers {
		s.taken[number] = task
	}
}

// release gives back all that task has.
func (s *portSet) release(task string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, owner := range s.taken {
		if owner == task {
			delete(s.taken, number)
		}
	}
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
