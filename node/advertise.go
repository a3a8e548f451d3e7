package node

import (
	"cmp"
	"fmt"
	"net"
	"strings"
)

// documentation is an address that nobody has (RFC 5737). Connecting a UDP socket
// to it sends nothing and tells which source address the default route has.
const documentation = "192.0.2.1:9"

// advertised returns the address that other nodes reach this one at: what was
// given, else the default route's source address, else loopback, with the port
// that it listens on. alone is true when it found no better than loopback, where
// no other machine reaches it.
func advertised(given string, listener net.Addr) (addr string, alone bool, err error) {
	_, port, err := net.SplitHostPort(listener.String())
	if err != nil {
		return "", false, fmt.Errorf("listening address %s: %w", listener, err)
	}
	if given != "" {
		host, givenPort := splitAdvertised(given)
		return net.JoinHostPort(host, cmp.Or(givenPort, port)), false, nil
	}
	if host, _, err := net.SplitHostPort(listener.String()); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
			return net.JoinHostPort(host, port), false, nil
		}
	}
	if ip := defaultSource(); ip != nil {
		return net.JoinHostPort(ip.String(), port), ip.IsLoopback(), nil
	}
	return net.JoinHostPort("127.0.0.1", port), true, nil
}

// splitAdvertised parts an address into host and port, "" if it has none.
func splitAdvertised(given string) (host, port string) {
	if host, port, err := net.SplitHostPort(given); err == nil {
		return host, port
	}
	return strings.Trim(given, "[]"), ""
}

// checkAdvertised refuses an address that no other machine can connect to.
func checkAdvertised(given string) error {
	if given == "" {
		return nil
	}
	host, port := splitAdvertised(given)
	switch ip := net.ParseIP(host); {
	case host == "":
		return fmt.Errorf("--advertise-remote-api %s has no host: give an address or a name of this machine", given)
	case ip != nil && ip.IsUnspecified():
		return fmt.Errorf("--advertise-remote-api %s: no machine can connect to that; give an address or a name of this machine", given)
	case ip == nil && strings.ContainsAny(host, " :/"):
		return fmt.Errorf("--advertise-remote-api %q is not an address: write it HOST or HOST:PORT", given)
	case port == "0":
		return fmt.Errorf("--advertise-remote-api %s: port 0 is none; leave the port out for the one that is listened on", given)
	}
	return nil
}

// defaultSource is the source address of the default route, nil if there is none.
func defaultSource() net.IP {
	conn, err := net.Dial("udp", documentation)
	if err != nil {
		return nil
	}
	defer conn.Close()
	if addr, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return addr.IP
	}
	return nil
}
