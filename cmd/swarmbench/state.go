package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"skep/api"
)

const (
	stateTasks     = 100_000
	stateServices  = 10
	stateAgents    = 100
	stateWriters   = 8
	statePause     = 5 * time.Millisecond   // between two writes of a client
	stateGrowth    = 100 * time.Millisecond // between two writes that make the log grow
	stateIdle      = 4 * time.Second
	stateSnapshots = 3
	restartBar     = 2 * time.Second
	snapshotMemory = 1.3
	snapshotTimes  = 2
)

// state measures what many tasks cost a manager that takes snapshots under load, is
// killed and started again, or brings a new manager up to date.
func (s *suite) state(ctx context.Context) error {
	w, err := s.newSwarm(ctx, "none")
	if err != nil {
		return err
	}
	defer w.end()
	f, err := startFleet(ctx, w.control, stateAgents, w.addr)
	if err != nil {
		return err
	}
	defer f.end()
	m := &stateful{swarm: w}
	// One after the other: agents that all start a thousand tasks at once, in one process,
	// come to no heartbeat.
	for range stateServices {
		d, err := measureDeploy(ctx, w.control, f, stateTasks/stateServices)
		if err != nil {
			return err
		}
		m.services = append(m.services, d.service.Id)
	}
	if m.before, err = tasksOf(ctx, w.control, m.services...); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{m.restart, m.steady, m.snapshots, m.join} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stateful is a manager with many tasks.
type stateful struct {
	*swarm
	services []string
	before   map[string]placed
	// idle is what its writes were like without a snapshot, and its memory.
	idle observed
}

// check looks whether the tasks are what they were, as a manager sees them.
func (m *stateful) check(ctx context.Context, w *swarm) error {
	after, err := tasksOf(ctx, w.control, m.services...)
	if err != nil {
		return err
	}
	if err := sameTasks(m.before, after); err != nil {
		return fmt.Errorf("check failed: %w", err)
	}
	return nil
}

func (m *stateful) report(r result) error {
	r.Bench, r.Check = "state", "the same tasks on the same nodes in the same states, every acknowledged write is there"
	r.Params = fmt.Sprintf("tasks=%d, %s", len(m.before), r.Params)
	return m.suite.report(r)
}

func (m *stateful) restart(ctx context.Context) error {
	var all latencies
	for range 3 {
		m.kill()
		began := time.Now()
		if err := m.start(ctx); err != nil {
			return err
		}
		all = append(all, time.Since(began))
	}
	if err := m.check(ctx, m.swarm); err != nil {
		return err
	}
	took := all.percentile(0.5)
	return m.report(result{Params: "kill -9 and start", Value: milliseconds(took), Unit: "ms",
		Detail: fmt.Sprintf("median of 3, max %s, to the first answer", round(all.percentile(1)))}.promise("≤ 2 s", took <= restartBar))
}

// steady finds out what writes are like while no snapshot is taken: right after one.
func (m *stateful) steady(ctx context.Context) (err error) {
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	for range 3 {
		if _, err := m.observe(ctx, awaitSnapshots(1)); err != nil {
			return err
		}
		m.idle, err = m.observe(ctx, func(ctx context.Context, _ func() int) error { return sleep(ctx, stateIdle) })
		if err != nil || m.idle.snapshots == 0 {
			return err
		}
	}
	return errors.New("check failed: snapshots are taken all the time")
}

func (m *stateful) snapshots(ctx context.Context) error {
	o, err := m.observe(ctx, awaitSnapshots(stateSnapshots))
	if err != nil {
		return err
	}
	return m.compare(fmt.Sprintf("%d snapshots", o.snapshots), o)
}

// awaitSnapshots waits until n snapshots were taken.
func awaitSnapshots(n int) func(ctx context.Context, snapshots func() int) error {
	return func(ctx context.Context, snapshots func() int) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for snapshots() < n {
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return fmt.Errorf("check failed: %d snapshots in a minute, want %d", snapshots(), n)
			}
		}
		return nil
	}
}

// join has another manager join, and measures how long it takes until that one answers.
func (m *stateful) join(ctx context.Context) error {
	r, err := m.control.ListClusters(ctx, &api.ListClustersRequest{})
	if err != nil {
		return err
	}
	var other *swarm
	var took time.Duration
	o, err := m.observe(ctx, func(ctx context.Context, _ func() int) (err error) {
		began := time.Now()
		other, err = m.suite.newSwarm(ctx, "none", "--join-addr", m.addr, "--join-token", r.Clusters[0].GetRootCa().GetJoinTokens().GetManager())
		took = time.Since(began)
		return err
	})
	if other != nil {
		defer other.end()
	}
	if err != nil {
		return err
	}
	if err := m.check(ctx, other); err != nil {
		return err
	}
	if err := m.report(result{Params: "a new manager answers after", Value: milliseconds(took), Unit: "ms"}); err != nil {
		return err
	}
	return m.compare("a new manager", o)
}

// compare reports what was observed beside what it is like when nothing happens.
func (m *stateful) compare(during string, o observed) error {
	memory := float64(o.peak) / float64(m.idle.steady)
	if err := m.report(result{Params: "peak memory, " + during, Value: float64(o.peak) / megabyte, Unit: "MiB", Ratio: memory}.
		against(float64(m.idle.steady)/megabyte).promise("≤ 1.3 × steady", memory <= snapshotMemory)); err != nil {
		return err
	}
	slow, idle := o.writes.percentile(0.99), m.idle.writes.percentile(0.99)
	return m.report(result{Params: "write p99, " + during, Value: milliseconds(slow), Unit: "ms",
		Detail: fmt.Sprintf("%d writes, %s; idle %s", len(o.writes), o.writes, m.idle.writes)}.against(milliseconds(idle)).
		promise("≤ 2 × idle", slow <= snapshotTimes*idle))
}

// observed is what a manager was like for a while.
type observed struct {
	writes       latencies
	steady, peak int64 // bytes of memory: the middle, and the most
	snapshots    int
}

// observe has clients write with pauses, and the log grow, while something happens. What
// happens can ask how many snapshots were taken so far.
func (m *stateful) observe(ctx context.Context, happens func(ctx context.Context, snapshots func() int) error) (o observed, err error) {
	watch, err := newWatch(m)
	if err != nil {
		return o, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	var mu sync.Mutex
	for i := range stateWriters {
		group.Go(func() error {
			mine, err := m.pacedWrites(ctx, run, i)
			mu.Lock()
			defer mu.Unlock()
			o.writes = append(o.writes, mine...)
			return err
		})
	}
	group.Go(func() error { return m.growLog(ctx, run) })
	group.Go(func() error { return watch.run(run) })
	err = happens(ctx, watch.snapshots)
	stop()
	if err = errors.Join(err, group.Wait()); err != nil {
		return o, err
	}
	o.snapshots = watch.snapshots()
	o.steady, o.peak = watch.memory()
	return o, nil
}

// pacedWrites updates one config until run ends, and looks whether it is as it was
// acknowledged last.
func (m *stateful) pacedWrites(ctx, run context.Context, client int) (latencies, error) {
	p, err := dialSocket(m.socket, 1)
	if err != nil {
		return nil, err
	}
	defer p.close()
	control := api.NewControlClient(p[0])
	c, err := createConfig(ctx, control, fmt.Sprintf("bench-%d-%d", client, time.Now().UnixNano()), fewBytes)
	if err != nil {
		return nil, err
	}
	var all latencies
	for n := 0; sleep(run, statePause) == nil; n++ {
		c.Spec.Annotations.Labels = map[string]string{"n": strconv.Itoa(n)}
		began := time.Now()
		r, err := control.UpdateConfig(ctx, &api.UpdateConfigRequest{ConfigId: c.Id, ConfigVersion: c.Meta.GetVersion(), Spec: c.Spec})
		if err != nil {
			return nil, fmt.Errorf("update a config: %w", err)
		}
		all, c = append(all, time.Since(began)), r.Config
	}
	r, err := control.GetConfig(ctx, &api.GetConfigRequest{ConfigId: c.Id})
	if err == nil && !maps.Equal(r.Config.GetSpec().GetAnnotations().GetLabels(), c.GetSpec().GetAnnotations().GetLabels()) {
		err = errors.New("check failed: the last acknowledged update of a config is lost")
	}
	return all, err
}

// growLog writes what makes the log grow, and the state not, until run ends.
func (m *stateful) growLog(ctx, run context.Context) error {
	data := strings.Repeat(" ", 250_000)
	for n := 0; sleep(run, stateGrowth) == nil; n++ {
		c, err := createConfig(ctx, m.control, fmt.Sprintf("bench-log-%d", time.Now().UnixNano()), data)
		if err != nil {
			return err
		}
		if _, err := m.control.RemoveConfig(ctx, &api.RemoveConfigRequest{ConfigId: c.Id}); err != nil {
			return fmt.Errorf("remove a config: %w", err)
		}
	}
	return nil
}

// watch looks at the memory and the snapshots of a manager again and again.
type watch struct {
	m      *stateful
	before []string

	mu   sync.Mutex
	rss  []int64
	seen map[string]bool
}

func newWatch(m *stateful) (*watch, error) {
	before, err := m.snapshotFiles()
	return &watch{m: m, before: before, seen: map[string]bool{}}, err
}

func (w *watch) run(ctx context.Context) error {
	for ctx.Err() == nil {
		u, err := usageOf(w.m.pid)
		if err != nil {
			return err
		}
		names, err := w.m.snapshotFiles()
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.rss = append(w.rss, u.rss)
		for _, name := range names {
			w.seen[name] = w.seen[name] || !slices.Contains(w.before, name)
		}
		w.mu.Unlock()
		_ = sleep(ctx, 20*time.Millisecond) // it is looked at above
	}
	return nil
}

// snapshots returns how many snapshots were written since it began.
func (w *watch) snapshots() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, isNew := range w.seen {
		if isNew {
			n++
		}
	}
	return n
}

// memory returns the middle and the most of what was seen.
func (w *watch) memory() (middle, most int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.rss)
	return w.rss[len(w.rss)/2], w.rss[len(w.rss)-1]
}

// snapshotFiles returns the names of the manager's snapshots.
func (m *stateful) snapshotFiles() ([]string, error) {
	return filepath.Glob(filepath.Join(m.dir, "state", "raft", "snapshots", "*.snap"))
}
