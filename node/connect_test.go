package node

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/client"
)

// knowing is a node that knows some managers.
func knowing(t *testing.T, managers ...string) *node {
	t.Helper()
	root, _, cert, err := ca.Bootstrap("node", "cluster", time.Now(), ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := openStateDir(Machine{}.withDefaults(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.release() })
	return &node{dir: dir, identity: ca.NewIdentity(root, cert, time.Now), managers: client.NewManagers(managers...)}
}

// Every session ends with an error one day. What tells good managers from bad
// ones is whether they registered the node.
func TestAManagerThatRegisteredTheNodeIsPreferred(t *testing.T) {
	t.Parallel()
	n := knowing(t, "127.0.0.1:1")
	before := n.managers.Peers()[0].GetWeight()
	for _, c := range []struct {
		registers bool
		better    bool
	}{{false, false}, {true, true}} {
		_, done, err := n.connectRemote(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.registers {
			n.notify(&api.SessionMessage{})
		}
		done(errors.New("the connection was lost"))
		after := n.managers.Peers()[0].GetWeight()
		if (after > before) != c.better {
			t.Errorf("registered %v: the weight went from %d to %d", c.registers, before, after)
		}
		before = after
	}
}

func TestAManagerThatJustDidNotAnswerIsLeftForLast(t *testing.T) {
	t.Parallel()
	const a, b = "127.0.0.1:1", "127.0.0.1:2"
	advised, err := status.New(codes.Unavailable, "no leader").WithDetails(&errdetails.RetryInfo{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		registered bool
		ended      error
		both       bool // whether both are picked afterwards
	}{
		{"a connection that was refused", false, status.Error(codes.Unavailable, "connection refused"), false},
		{"a manager that did not register the node", false, advised.Err(), false},
		{"a session whose manager was killed", true, fmt.Errorf("session: %w", status.Error(codes.Unavailable, "EOF")), false},
		{"a session whose manager fell silent", true, fmt.Errorf("heartbeat: %w", status.Error(codes.DeadlineExceeded, "")), false},
		{"a session whose manager passed it on to a leader that is gone", true, fmt.Errorf("session: %w", advised.Err()), true},
		{"a session that the node ended", true, errors.New("the node's description changed"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := knowing(t, a, b)
			again := 0
			for range 100 {
				n.away, n.managers = "", client.NewManagers(a, b)
				first := pick(t, n, test.registered, test.ended)
				if pick(t, n, true, nil) == first {
					again++
				}
			}
			if (again > 0) != test.both {
				t.Errorf("it was picked again %d times of 100", again)
			}
		})
	}
	n := knowing(t, a)
	for range 2 {
		if got := pick(t, n, false, errors.New("refused")); got != a {
			t.Errorf("the only one that is known is picked again, got %q", got)
		}
	}
}

// A manager that the others have given up, or have not taken in yet, is in its own list: it would
// wait for a leader that it does not have.
func TestANodesOwnManagerIsAskedOnlyIfThereIsNoOther(t *testing.T) {
	t.Parallel()
	const own, a, b = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
	for name, test := range map[string]struct {
		known, picked []string
		away          string
	}{
		"two others":                         {[]string{own, a, b}, []string{a, b}, ""},
		"two others, one of which just fell": {[]string{own, a, b}, []string{a}, b},
		"one other, which just fell":         {[]string{own, a}, []string{a}, a},
		"no other":                           {[]string{own}, []string{own}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := knowing(t)
			n.addr.Store(new(own))
			picked := map[string]bool{}
			for range 100 {
				n.away, n.managers = test.away, client.NewManagers(test.known...)
				picked[pick(t, n, true, nil)] = true
			}
			if got := slices.Sorted(maps.Keys(picked)); !slices.Equal(got, test.picked) {
				t.Errorf("it asked %q, want %q", got, test.picked)
			}
		})
	}
}

// Who renews the certificate may have begun before the address is known.
func TestAManagerThatKnowsNoOtherIsKnownToThoseWhoAskAlready(t *testing.T) {
	t.Parallel()
	n := knowing(t)
	asks := n.joiner()
	n.knowItself("127.0.0.1:1")
	n.knowItself("127.0.0.1:2")
	if got := asks.Managers.String(); got != "127.0.0.1:1" {
		t.Errorf("it asks %q, want the first address", got)
	}
}

// pick has a session at one of the managers that n knows, and returns which.
func pick(t *testing.T, n *node, registered bool, ended error) string {
	t.Helper()
	conn, done, err := n.connectRemote(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n.registered.Store(registered)
	done(ended)
	return strings.TrimPrefix(conn.(*grpc.ClientConn).CanonicalTarget(), "passthrough:///")
}
