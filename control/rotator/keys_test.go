package rotator_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"skep/api"
	"skep/control/rotator"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

// Each file is a story of the network keys of one swarm.
//
//	found            the swarm begins
//	moved            the swarm begins with the keys that another implementation left: three of
//	                 gossip, none for what is encrypted between machines
//	lead             another manager leads
//	wait 12h         time passes
//	no-randomness    keys cannot be made, until it is said again
//	forget           somebody removes the record of when keys were changed
//
// Each prints how many writes there were, when the loop wakes next, and the keys by their secrets
// in the order of their making, and their lamport times after that of the first.
func TestHowNetworkKeysAreRotated(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/keys", func(t *testing.T, path string) {
		random := &counter{}
		loop := rotator.Keys{ClusterID: "c", Random: random}.Loop()
		c := looptest.New(loop)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			before := c.Store.Read().Version()
			switch d.Cmd {
			case "found":
				c.Do(t, func(tx *store.Tx) error { return tx.Create(&api.Cluster{Id: "c"}) })
			case "moved":
				cluster := &api.Cluster{Id: "c", EncryptionKeyLamportClock: 1002}
				for i := range 3 {
					cluster.NetworkBootstrapKeys = append(cluster.NetworkBootstrapKeys, &api.EncryptionKey{
						Subsystem: "networking:gossip", Key: bytes.Repeat([]byte{byte(100 + i)}, 16), LamportTime: uint64(1000 + i),
					})
				}
				c.Do(t, func(tx *store.Tx) error { return tx.Create(cluster) })
			case "lead":
				c.Runner.Reset(c.Store.Read())
			case "wait":
				d, err := time.ParseDuration(d.CmdArgs[0].Key)
				if err != nil {
					t.Fatal(err)
				}
				c.Wait(d)
			case "no-randomness":
				random.broken = !random.broken
			case "forget":
				c.Do(t, func(tx *store.Tx) error {
					record, _ := tx.Resources.Get(rotator.KeysKind)
					return tx.Delete(record)
				})
			default:
				t.Fatalf("there is no command %q", d.Cmd)
			}
			next := c.Settle(t)
			out := fmt.Sprintf("writes: %d, next in %v\n", c.Store.Read().Version()-before, next.Sub(c.Now()))
			cluster, _ := c.Store.Read().Clusters.Get("c")
			return out + showKeys(cluster)
		})
	})
}

func showKeys(c *api.Cluster) string {
	keys := c.GetNetworkBootstrapKeys()
	if len(keys) == 0 {
		return "no keys\n"
	}
	base := keys[0].GetLamportTime()
	for _, key := range keys {
		base = min(base, key.GetLamportTime())
	}
	var out strings.Builder
	for _, subsystem := range []string{"networking:gossip", "networking:ipsec"} {
		out.WriteString(subsystem)
		for _, key := range keys {
			if key.GetSubsystem() != subsystem {
				continue
			}
			fmt.Fprintf(&out, " %d@+%d", key.GetKey()[0], key.GetLamportTime()-base)
			if len(key.GetKey()) != 16 || key.GetAlgorithm() != api.EncryptionKey_AES_128_GCM || key.GetLamportTime() > c.GetEncryptionKeyLamportClock() {
				fmt.Fprintf(&out, " (which is no key: %v)", key)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// counter is randomness that is told apart: the first key is of ones, the next of twos.
type counter struct {
	n      byte
	broken bool
}

func (c *counter) Read(p []byte) (int, error) {
	if c.broken {
		return 0, errors.New("no randomness")
	}
	c.n++
	copy(p, bytes.Repeat([]byte{c.n}, len(p)))
	return len(p), nil
}

// The clock begins somewhere in 16 bits, as that of the others does, and goes on from the highest
// that any key has, however the record came to be.
func TestTheClockOfNetworkKeysNeverGoesBack(t *testing.T) {
	t.Parallel()
	c := looptest.New(rotator.Keys{ClusterID: "c"}.Loop())
	c.Do(t, func(tx *store.Tx) error { return tx.Create(&api.Cluster{Id: "c"}) })
	c.Settle(t)
	first, _ := c.Store.Read().Clusters.Get("c")
	if at := first.GetEncryptionKeyLamportClock(); at < 6 || at > 1<<16+6 {
		t.Errorf("the clock of the first keys is %d, want one of 16 bits", at)
	}
	c.Do(t, func(tx *store.Tx) error {
		cluster, _ := tx.Clusters.Get("c")
		cluster = model.Shallow(cluster)
		cluster.EncryptionKeyLamportClock = 1
		return tx.Update(cluster)
	})
	c.Wait(12 * time.Hour)
	c.Settle(t)
	second, _ := c.Store.Read().Clusters.Get("c")
	if got, want := second.GetEncryptionKeyLamportClock(), first.GetEncryptionKeyLamportClock()+2; got != want {
		t.Errorf("the clock is %d after the next keys, want %d", got, want)
	}
}
