package testcluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/internal/memnet"
)

const (
	// SeedVariable is the environment's variable that names the one seed to run with.
	SeedVariable = "SKEP_SEED"
	// SeedsVariable multiplies the number of seeds.
	SeedsVariable = "SKEP_SEEDS"
	// patience is how long what must come about may take, unless a method says otherwise.
	patience = time.Minute
	// poll is how often a state that nobody announces is looked at.
	poll = 20 * time.Millisecond
	// votes is how long a member that has caught up takes at most to become a voter, which
	// the API does not tell from a learner.
	votes = time.Second
	// callLimit is how long one request of the harness itself may take.
	callLimit = 10 * time.Second
)

// Cluster is a swarm and the world around it. Its methods are for the test's own
// goroutine; a failure ends the test.
type Cluster struct {
	// Net is the network: cut, slow and mend it as you like. Its hosts are the machines.
	Net *memnet.Net
	// Rand is made from the seed.
	Rand *rand.Rand

	t         *testing.T
	seed      uint64
	story     *story
	machines  map[string]*Machine
	names     []string // in the order in which they were added
	processes sync.WaitGroup
	histories []*Writers
	watchers  []*observer
	unchecked bool
}

// Run runs f with an empty cluster in a bubble, and then checks the promises.
func Run(t *testing.T, seed uint64, f func(c *Cluster)) {
	t.Helper()
	name := t.Name()
	var c *Cluster
	again := func() string {
		return fmt.Sprintf("seed %d; repeat with: %s=%d go test ./internal/testcluster -run '^%s$'\n%s", seed, SeedVariable, seed, strings.ReplaceAll(name, "/", "$/^"), c.story)
	}
	synctest.Test(t, func(t *testing.T) {
		c = &Cluster{
			Net: memnet.New(seed), Rand: rand.New(rand.NewPCG(seed, 1)),
			t: t, seed: seed, story: &story{begun: time.Now()}, machines: make(map[string]*Machine),
		}
		c.Net.SetLinks(memnet.Link{Latency: 500 * time.Microsecond, Jitter: 500 * time.Microsecond})
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(again())
			}
		})
		t.Cleanup(c.end)
		f(c)
		c.check()
	})
	// Outside of the bubble, where the limit is one of real time.
	for _, w := range c.histories {
		if err := w.History.Linearizable(checkLimit); err != nil && !t.Failed() {
			t.Errorf("I2: the control API is linearizable: %v\n%s", err, again())
		}
	}
}

// Seeds runs f once for each of the seeds from 1 to n, as subtests, or only for the one
// that the environment names.
func Seeds(t *testing.T, n int, f func(c *Cluster)) {
	t.Helper()
	if text := os.Getenv(SeedsVariable); text != "" {
		times, err := strconv.Atoi(text)
		if err != nil || times < 1 {
			t.Fatalf("%s=%q is no number above 0", SeedsVariable, text)
		}
		n *= times
	}
	first, last := uint64(1), uint64(n)
	if text := os.Getenv(SeedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", SeedVariable, err)
		}
		first, last = seed, seed
	}
	for seed := first; seed <= last; seed++ {
		if first == last {
			Run(t, seed, f)
			return
		}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { Run(t, seed, f) })
	}
}

// end stops all that runs. What does not end fails the test: the bubble says where it is.
func (c *Cluster) end() {
	c.Net.Heal()
	for _, w := range c.histories {
		w.Stop()
	}
	for _, w := range c.watchers {
		w.stop()
	}
	for _, name := range c.names {
		m := c.machines[name]
		m.mu.Lock()
		if m.run != nil {
			m.run.cancel()
		}
		m.mu.Unlock()
	}
	c.processes.Wait()
	for _, m := range c.machines {
		_ = m.client.Close()
	}
	synctest.Wait()
	if open := c.Net.Open(); open != 0 && !c.t.Failed() {
		c.t.Errorf("%d ends of connections are open after all processes have ended", open)
	}
}

// Logf adds a line to the story.
func (c *Cluster) Logf(format string, args ...any) { c.story.add(fmt.Sprintf(format, args...)) }

// T is the test, inside the bubble.
func (c *Cluster) T() *testing.T { return c.t }

// Machine returns a machine by name.
func (c *Cluster) Machine(name string) *Machine {
	c.t.Helper()
	m := c.machines[name]
	if m == nil {
		c.t.Fatalf("there is no machine %s", name)
	}
	return m
}

// Names returns the names of all machines, in the order in which they came.
func (c *Cluster) Names() []string { return append([]string(nil), c.names...) }

// Others returns the names of all machines but these.
func (c *Cluster) Others(but ...string) []string {
	var out []string
next:
	for _, name := range c.names {
		for _, b := range but {
			if name == b {
				continue next
			}
		}
		out = append(out, name)
	}
	return out
}
