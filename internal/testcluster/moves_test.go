package testcluster_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"skep/api"
	"skep/internal/testcluster"
)

// Fault 46 of the reliability promises: managers get other addresses while they are down, more of
// them at once than may be lost, so that nobody can write it down before they have found each
// other. Who takes whose place makes no difference; who cannot know of anybody is told at its start.
func TestManagersThatMovedAtOnceFindEachOtherAndWorkersFindThem(t *testing.T) {
	t.Parallel()
	for _, move := range []struct {
		name string
		to   map[string]string // whose place, or an address
		told map[string]string // whose new address is given to whom with --join-addr
	}{
		{name: "two of three", to: map[string]string{"m1": "10.99.0.1", "m2": "10.99.0.2"}},
		{name: "one to where another was", to: map[string]string{"m1": "m2", "m2": "10.99.0.2"}},
		{name: "two to each other's place", to: map[string]string{"m1": "m2", "m2": "m1"}},
		{name: "each to the next one's place", to: map[string]string{"m1": "m2", "m2": "m3", "m3": "m1"}},
		{
			name: "all to new places", to: map[string]string{"m1": "10.99.0.1", "m2": "10.99.0.2", "m3": "10.99.0.3"},
			told: map[string]string{"m2": "m1", "m3": "m1", "w1": "m2"},
		},
	} {
		t.Run(move.name, func(t *testing.T) {
			t.Parallel()
			testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
				c.Managers(3)
				c.Workers(1)
				w := c.Writers(6, "m1", "m2", "m3")
				unharmed := c.KeepsTasks(c.Deploy("web", 4))
				was := map[string]string{}
				for _, name := range []string{"m1", "m2", "m3"} {
					was[name] = c.Machine(name).IP()
				}
				for name := range was {
					c.Kill(name)
				}
				for name := range move.to { // no two machines have one address
					c.Machine(name).Move("10.98.0." + name[1:])
				}
				for name, to := range move.to {
					c.Machine(name).Move(cmp.Or(was[to], to))
				}
				for _, name := range []string{"m1", "m2", "m3", "w1"} {
					m := c.Machine(name)
					if of, ok := move.told[name]; ok {
						if m.Running() {
							m.Kill()
						}
						m.Config.JoinAddr = c.Machine(of).Addr()
					}
					if !m.Running() {
						m.Restart()
					}
				}
				w.Next(30 * time.Second)
				for _, name := range []string{"m1", "m2", "m3"} {
					c.Await(name+" knows where the managers are", 30*time.Second, func() error { return finds(c, name) })
				}
				c.AwaitConverged(time.Minute)
				unharmed()
			})
		})
	}
}

// finds returns an error unless a manager has the addresses of all managers.
func finds(c *testcluster.Cluster, name string) error {
	ctx := c.T().Context()
	nodes, err := c.Control(name).ListNodes(ctx, &api.ListNodesRequest{})
	if err != nil {
		return err
	}
	for _, other := range []string{"m1", "m2", "m3"} {
		m := c.Machine(other)
		if !slices.ContainsFunc(nodes.GetNodes(), func(n *api.Node) bool {
			return n.GetDescription().GetHostname() == other && n.GetManagerStatus().GetAddr() == m.Addr()
		}) {
			return fmt.Errorf("%s is not taken to be at %s", other, m.Addr())
		}
	}
	return nil
}
