package node

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"skep/api"
	"skep/ca"
	"skep/client"
)

// Every session ends with an error one day. What tells good managers from bad
// ones is whether they registered the node.
func TestAManagerThatRegisteredTheNodeIsPreferred(t *testing.T) {
	t.Parallel()
	root, _, cert, err := ca.Bootstrap("node", "cluster", time.Now(), ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := openStateDir(Machine{}.withDefaults(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.release() }()
	n := &node{dir: dir, identity: ca.NewIdentity(root, cert, time.Now), managers: client.NewManagers("127.0.0.1:1")}
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
