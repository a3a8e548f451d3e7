package testcluster_test

import (
	"context"
	"testing"
	"time"

	"skep/api"
	"skep/internal/testcluster"
)

// failover is within what another manager leads and acknowledges writes after the leader
// is gone.
const failover = 2 * time.Second

// Fault 1 of the reliability promises.
func TestTheLeaderKilledUnder64WritersIsReplacedWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		c.Observe("m1", "m2", "m3")
		kept := c.KeepsTasks(c.Deploy("web", 4))
		w := c.Writers(64, "m1", "m2", "m3")
		for range 3 {
			c.Wait(time.Duration(500+c.Rand.IntN(1000)) * time.Millisecond)
			old := c.AwaitLeader()
			c.Kill(old)
			within(c, failover, func() {
				c.AwaitAnotherLeader(old, failover)
				w.Next(failover)
			})
			c.Wait(time.Second)
			c.Restart(old)
			c.AwaitManager(old)
		}
		kept()
	})
}

// within fails the test if f takes longer than limit.
func within(c *testcluster.Cluster, limit time.Duration, f func()) {
	c.T().Helper()
	begun := time.Now()
	f()
	if took := time.Since(begun); took > limit {
		c.T().Errorf("it took %v, want at most %v", took, limit)
	}
}

// Fault 4 of the reliability promises.
func TestAllManagersKilledAtOnceKeepWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		c.Observe("m1", "m2", "m3")
		kept := c.KeepsTasks(c.Deploy("web", 4))
		w := c.Writers(8, "m1", "m2", "m3")
		for range 3 {
			c.Wait(time.Duration(200+c.Rand.IntN(1000)) * time.Millisecond)
			for _, name := range []string{"m1", "m2", "m3"} {
				c.Kill(name)
			}
			c.Wait(time.Duration(c.Rand.IntN(10000)) * time.Millisecond)
			for _, name := range []string{"m1", "m2", "m3"} {
				c.Restart(name)
			}
			w.Next(2 * testcluster.WriteGap)
		}
		kept()
	})
}

// Fault 5 of the reliability promises.
func TestAPowerCutOfAMajorityOrAllLosesNoAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 3, func(c *testcluster.Cluster) {
		c.Managers(3)
		w := c.Writers(8, "m1", "m2", "m3")
		for range 4 {
			c.Wait(time.Duration(200+c.Rand.IntN(500)) * time.Millisecond)
			dark := []string{"m1", "m2", "m3"}
			c.Rand.Shuffle(3, func(i, j int) { dark[i], dark[j] = dark[j], dark[i] })
			dark = dark[:2+c.Rand.IntN(2)]
			for _, name := range dark {
				c.Crash(name, true)
				c.Wait(time.Duration(c.Rand.IntN(20)) * time.Millisecond)
			}
			c.Wait(time.Duration(c.Rand.IntN(3000)) * time.Millisecond)
			for _, name := range dark {
				c.Restart(name)
			}
			w.Next(10 * time.Second)
		}
	})
}

// Fault 14 of the reliability promises.
func TestAMinorityBehindASymmetricPartitionRefusesWritesAndLinearizableReads(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		c.Observe("m1", "m2", "m3")
		kept := c.KeepsTasks(c.Deploy("web", 4))
		w := c.Writers(12, "m1", "m2", "m3")
		c.Wait(time.Second)
		old := c.AwaitLeader()
		c.Isolate(old)
		within(c, testcluster.WriteGap, func() {
			c.AwaitAnotherLeader(old, testcluster.WriteGap)
			w.Next(testcluster.WriteGap)
		})
		refuses(c, old)
		c.Wait(10 * time.Second)
		refuses(c, old)
		c.Heal()
		within(c, failover, func() { c.Await(old+" answers again", failover, func() error { return read(c, old) }) })
		kept()
	})
}

// refuses checks that a machine's manager answers no read and carries out no write.
func refuses(c *testcluster.Cluster, name string) {
	c.T().Helper()
	if err := read(c, name); err == nil {
		c.T().Errorf("%s answers a read without a majority", name)
	}
	ctx, cancel := context.WithTimeout(c.T().Context(), 6*time.Second)
	defer cancel()
	if _, err := c.Control(name).CreateConfig(ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{
		Annotations: &api.Annotations{Name: "of-the-minority-" + name}, Data: []byte("x"),
	}}); err == nil {
		c.T().Errorf("%s acknowledges a write without a majority", name)
	}
}

func read(c *testcluster.Cluster, name string) error {
	ctx, cancel := context.WithTimeout(c.T().Context(), 6*time.Second)
	defer cancel()
	_, err := c.Control(name).ListConfigs(ctx, &api.ListConfigsRequest{})
	return err
}

// Fault 15 of the reliability promises.
func TestAnAsymmetricPartitionMakesNoLeadershipFlap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		cut  func(c *testcluster.Cluster, leader, a, b string)
	}{
		{"the leader does not hear a follower", func(c *testcluster.Cluster, leader, a, _ string) { c.Net.Cut(a, leader) }},
		{"a follower does not hear the leader", func(c *testcluster.Cluster, leader, a, _ string) { c.Net.Cut(leader, a) }},
		{"the leader hears nobody", func(c *testcluster.Cluster, leader, a, b string) { c.Net.Cut(a, leader); c.Net.Cut(b, leader) }},
		{"nobody hears the leader", func(c *testcluster.Cluster, leader, a, b string) { c.Net.Cut(leader, a); c.Net.Cut(leader, b) }},
		{"a ring", func(c *testcluster.Cluster, leader, a, b string) {
			c.Net.Cut(leader, a)
			c.Net.Cut(a, b)
			c.Net.Cut(b, leader)
		}},
		{"a bridge", func(c *testcluster.Cluster, leader, a, b string) { c.Net.Cut(leader, b); c.Net.Cut(b, leader) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
				c.Managers(3)
				w := c.Writers(6, "m1", "m2", "m3")
				c.Wait(time.Second)
				leader := c.AwaitLeader()
				rest := c.Others(leader)
				test.cut(c, leader, rest[0], rest[1])
				// A ring has no two managers that hear each other: nothing can be done.
				if test.name == "a ring" {
					c.Wait(10 * time.Second)
					return
				}
				w.Next(testcluster.WriteGap)
				c.Wait(10 * time.Second)
				settled := c.AwaitLeader()
				changes := 0
				for range 100 {
					c.Wait(100 * time.Millisecond)
					if now := c.Leader(); now != settled {
						changes++
						settled = now
					}
				}
				if changes > 0 {
					c.T().Errorf("the leadership changed %d times in ten seconds", changes)
				}
				w.Next(testcluster.WriteGap)
			})
		})
	}
}

// Fault 16 of the reliability promises.
func TestASwizzleClogIsOutlived(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		c.Observe("m1", "m2", "m3")
		c.Deploy("web", 4) // who is cut off for long is down, and its tasks are replaced
		w := c.Writers(8, "m1", "m2", "m3")
		names := c.Names()
		for range 3 {
			// Clog one machine after the other, and let them go in another order.
			c.Rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			clogged := append([]string(nil), names[:1+c.Rand.IntN(len(names))]...)
			for _, name := range clogged {
				c.Isolate(name)
				c.Wait(time.Duration(c.Rand.IntN(1500)) * time.Millisecond)
			}
			c.Rand.Shuffle(len(clogged), func(i, j int) { clogged[i], clogged[j] = clogged[j], clogged[i] })
			for _, name := range clogged {
				for _, other := range c.Others(name) {
					c.Net.Mend(name, other)
					c.Net.Mend(other, name)
				}
				c.Wait(time.Duration(c.Rand.IntN(1500)) * time.Millisecond)
			}
			w.Next(10 * time.Second)
		}
	})
}

// Fault 20 of the reliability promises.
func TestALeaderPausedFor30SecondsNeitherAcknowledgesNorServesStaleReads(t *testing.T) {
	t.Parallel()
	testcluster.Seeds(t, 2, func(c *testcluster.Cluster) {
		c.Managers(3)
		c.Workers(2)
		c.Observe("m1", "m2", "m3")
		kept := c.KeepsTasks(c.Deploy("web", 4))
		w := c.Writers(12, "m1", "m2", "m3")
		c.Wait(time.Second)
		old := c.AwaitLeader()
		resume := c.Machine(old).Pause(30 * time.Second)
		within(c, testcluster.WriteGap, func() {
			c.AwaitAnotherLeader(old, testcluster.WriteGap)
			w.Next(testcluster.WriteGap)
		})
		c.Wait(20 * time.Second)
		refuses(c, old)
		resume()
		c.Await(old+" answers again", 30*time.Second, func() error { return read(c, old) })
		kept()
	})
}

// Fault 21 of the reliability promises.
func TestAWallClockThatIsWrongByAnHourOrTenYearsOnOneNodeDisturbsNothing(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for _, test := range []struct {
		name string
		off  time.Duration
	}{
		{"an hour ahead", time.Hour}, {"an hour behind", -time.Hour},
		{"ten years ahead", 10 * year}, {"ten years behind", -10 * year},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			testcluster.Seeds(t, 1, func(c *testcluster.Cluster) {
				c.Managers(3)
				c.Workers(2)
				c.Observe("m1", "m2", "m3")
				kept := c.KeepsTasks(c.Deploy("web", 4))
				w := c.Writers(6, "m1", "m2", "m3")
				leader := c.AwaitLeader()
				for _, name := range []string{leader, "w1"} {
					c.Machine(name).SetClock(test.off)
					c.Wait(10 * time.Second)
					w.Next(testcluster.WriteGap)
				}
				// Whoever is ten years wrong takes all certificates for expired or not yet
				// valid, and so does not hear the others; it follows, or is alone.
				if now := c.AwaitLeader(); now != leader && max(test.off, -test.off) <= time.Hour {
					c.T().Errorf("%s leads since the clocks moved, and %s did before", now, leader)
				}
				kept()
				for _, name := range []string{leader, "w1"} {
					c.Machine(name).SetClock(0)
				}
				c.Wait(20 * time.Second)
			})
		})
	}
}
