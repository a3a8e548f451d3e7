package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"skep/api"
)

func failoverCommand() *cobra.Command {
	s := &suite{}
	f := &failover{suite: s}
	c := &cobra.Command{
		Use: "failover", Short: "Kill the leader of three managers again and again, and ask it to stop",
		Long: `failover starts three of our managers on loopback, has agents run tasks, and kills
the leader (kill -9) again and again, while clients write through all three sockets.
It measures the time until the next write is acknowledged, and until every agent has
a session again after that. Then it asks the leader to stop, which hands over first,
and measures the longest gap between two acknowledged writes.

It fails, and reports no number, when a task is not what it was before (its ID, node
and state), an acknowledged write is missing on any manager, or an agent stays away.`,
		Example: `  swarmbench failover --agents 50 --tasks 1000
  swarmbench failover --agents 1000 --tasks 50000 --kills 10`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s.report = func(r result) error { return r.print(c.OutOrStdout(), c.ErrOrStderr()) }
			return f.run(c.Context())
		},
	}
	c.Flags().StringVar(&s.swarmd, "swarmd", "bin/swarmd", "the manager to start")
	c.Flags().IntVar(&s.agents, "agents", 1000, "how many agents")
	c.Flags().IntVar(&f.tasks, "tasks", 50_000, "how many tasks they run")
	c.Flags().IntVar(&f.kills, "kills", 10, "how often the leader is killed")
	c.Flags().IntVar(&f.stops, "stops", 3, "how often the leader is asked to stop")
	return c
}

const (
	failoverBar  = 1300 * time.Millisecond
	failoverMost = 2 * time.Second
	sessionsBar  = 3 * time.Second
	handoverBar  = 50 * time.Millisecond
)

type failover struct {
	*suite
	tasks, kills, stops int
}

func (f *failover) run(ctx context.Context) error {
	t, err := f.newTrio(ctx)
	if err != nil {
		return err
	}
	defer t.end()
	fleet, err := startFleet(ctx, t[0].control, f.agents, t[0].addr, t[1].addr, t[2].addr)
	if err != nil {
		return err
	}
	defer fleet.end()
	d, err := measureDeploy(ctx, t[0].control, fleet, f.tasks)
	if err != nil {
		return err
	}
	before, err := tasksOf(ctx, t[0].control, d.service.Id)
	if err != nil {
		return err
	}
	w := startWriters(ctx, t)
	defer w.end()
	var writes, back, gaps latencies
	for range f.kills {
		write, sessions, err := f.killOnce(ctx, t, fleet, w)
		if err != nil {
			return err
		}
		writes, back = append(writes, write), append(back, sessions)
	}
	for range f.stops {
		gap, err := f.stopOnce(ctx, t, fleet, w)
		if err != nil {
			return err
		}
		gaps = append(gaps, gap)
	}
	w.end()
	for _, m := range t {
		if err := w.check(ctx, m.control); err != nil {
			return err
		}
		after, err := tasksOf(ctx, m.control, d.service.Id)
		if err != nil {
			return err
		}
		if err := sameTasks(before, after); err != nil {
			return fmt.Errorf("check failed: %w", err)
		}
	}
	return f.print(writes, back, gaps)
}

func (f *failover) print(writes, back, gaps latencies) error {
	params := fmt.Sprintf("agents=%d, tasks=%d, ", f.agents, f.tasks)
	const check = "the same tasks on the same nodes in the same states, every acknowledged write is on all three"
	var results []result
	if len(writes) > 0 {
		middle, most, slowest := writes.percentile(0.5), writes.percentile(1), back.percentile(1)
		results = append(results,
			result{Bench: "failover", Params: params + "next write, p50", Value: milliseconds(middle), Unit: "ms"}.promise("≤ 1.3 s", middle <= failoverBar),
			result{Bench: "failover", Params: params + "next write, max", Value: milliseconds(most), Unit: "ms"}.promise("≤ 2 s", most <= failoverMost),
			result{Bench: "failover", Params: params + "sessions back, max", Value: milliseconds(slowest), Unit: "ms",
				Detail: fmt.Sprintf("p50 %s", round(back.percentile(0.5)))}.promise("≤ 3 s after that write", slowest <= sessionsBar))
		for i := range results {
			results[i].Detail = strings.TrimPrefix(results[i].Detail+fmt.Sprintf(", kill -9 × %d", len(writes)), ", ")
		}
	}
	if len(gaps) > 0 {
		gap := gaps.percentile(0.5)
		results = append(results, result{Bench: "failover", Params: params + "planned, p50 of gaps", Value: milliseconds(gap), Unit: "ms",
			Detail: fmt.Sprintf("SIGTERM × %d, max %s", len(gaps), round(gaps.percentile(1)))}.promise("≤ 50 ms", gap <= handoverBar))
	}
	for _, r := range results {
		r.Check = check
		if err := f.report(r); err != nil {
			return err
		}
	}
	return nil
}

// killOnce kills the leader, starts it again, and returns how long no write was
// acknowledged, and how long after that the last agent was given a session.
func (f *failover) killOnce(ctx context.Context, t trio, fleet *fleet, w *writers) (write, back time.Duration, err error) {
	leader, err := t.awaitWhole(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	leader.kill()
	first, err := w.awaitAfter(ctx, began)
	if err != nil {
		return 0, 0, err
	}
	last, err := awaitSessions(ctx, fleet, began)
	if err != nil {
		return 0, 0, err
	}
	return first.Sub(began), max(last.Sub(first), 0), leader.start(ctx)
}

// stopOnce asks the leader to stop, starts it again, and returns the longest time
// between two acknowledged writes.
func (f *failover) stopOnce(ctx context.Context, t trio, fleet *fleet, w *writers) (time.Duration, error) {
	leader, err := t.awaitWhole(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := syscall.Kill(leader.pid, syscall.SIGTERM); err != nil {
		return 0, err
	}
	if _, err := awaitSessions(ctx, fleet, began); err != nil {
		return 0, err
	}
	until := time.Now()
	leader.kill() // it has ended, or does not matter any more
	return w.longestGap(began, until), leader.start(ctx)
}

// trio is three managers, each a process with a state directory of its own.
type trio [3]*swarm

func (s *suite) newTrio(ctx context.Context) (t trio, err error) {
	defer func() {
		if err != nil {
			t.end()
		}
	}()
	if t[0], err = s.newSwarm(ctx, "none"); err != nil {
		return t, err
	}
	r, err := t[0].control.ListClusters(ctx, &api.ListClustersRequest{})
	if err != nil {
		return t, err
	}
	if len(r.Clusters) == 0 {
		return t, errors.New("the manager lists no cluster")
	}
	for i := 1; i < len(t); i++ {
		if t[i], err = s.newSwarm(ctx, "none", "--join-addr", t[0].addr, "--join-token", r.Clusters[0].GetRootCa().GetJoinTokens().GetManager()); err != nil {
			return t, err
		}
	}
	_, err = t.awaitWhole(ctx)
	return t, err
}

func (t trio) end() {
	for _, m := range t {
		if m != nil {
			m.end()
		}
	}
}

// awaitWhole returns the leader once all three are reachable and each of them says so.
func (t trio) awaitWhole(ctx context.Context) (*swarm, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var leader *swarm
		agreed, whole := "", true
		for _, m := range t {
			addr, reachable, err := m.leader(ctx)
			whole = whole && err == nil && reachable == len(t) && addr != "" && (agreed == "" || agreed == addr)
			agreed = addr
			if m.addr == addr {
				leader = m
			}
		}
		if whole && leader != nil {
			return leader, nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, errors.New("three managers are not whole after a minute")
		}
	}
}

// leader returns whom this manager takes for the leader, and how many managers it reaches.
func (w *swarm) leader(ctx context.Context) (addr string, reachable int, err error) {
	r, err := w.control.ListNodes(ctx, &api.ListNodesRequest{Filters: &api.ListNodesRequest_Filters{Roles: []api.NodeRole{api.NodeRole_MANAGER}}})
	if err != nil {
		return "", 0, err
	}
	for _, n := range r.Nodes {
		if n.GetManagerStatus().GetReachability() == api.RaftMemberStatus_REACHABLE {
			reachable++
		}
		if n.GetManagerStatus().GetLeader() {
			addr = n.GetManagerStatus().GetAddr()
		}
	}
	return addr, reachable, nil
}

// awaitSessions returns when the last agent was given a session after t.
func awaitSessions(ctx context.Context, f *fleet, t time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		n, last := f.sessions.after(t)
		if n == len(f.nodes) {
			return last, nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return last, fmt.Errorf("check failed: %d of %d agents have a session again after a minute", n, len(f.nodes))
		}
	}
}

// placed is what must not change of a task when another manager leads.
type placed struct {
	node    string
	state   api.TaskState
	desired api.TaskState
}

func tasksOf(ctx context.Context, control api.ControlClient, services ...string) (map[string]placed, error) {
	r, err := control.ListTasks(ctx, &api.ListTasksRequest{Filters: &api.ListTasksRequest_Filters{ServiceIds: services}})
	if err != nil {
		return nil, err
	}
	tasks := make(map[string]placed, len(r.Tasks))
	for _, t := range r.Tasks {
		tasks[t.Id] = placed{t.NodeId, t.GetStatus().GetState(), t.DesiredState}
	}
	return tasks, nil
}

// sameTasks says what became of the first task that is not as it was.
func sameTasks(before, after map[string]placed) error {
	for id, was := range before {
		if is, ok := after[id]; !ok {
			return fmt.Errorf("task %s is gone", id)
		} else if is != was {
			return fmt.Errorf("task %s was %v and is %v", id, was, is)
		}
	}
	if len(after) != len(before) {
		return fmt.Errorf("%d tasks became %d", len(before), len(after))
	}
	return nil
}

// writers write through the socket of each manager, one after the other, and start
// anew when it fails.
type writers struct {
	prefix string
	stop   context.CancelFunc
	ended  sync.WaitGroup

	mu    sync.Mutex
	acked []ack
	names map[string]bool
}

// ack is one acknowledged write.
type ack struct{ began, at time.Time }

// writePause is how long a client waits between two writes, so that the load is
// not what is measured.
const writePause = 2 * time.Millisecond

func startWriters(ctx context.Context, t trio) *writers {
	ctx, stop := context.WithCancel(ctx)
	w := &writers{prefix: fmt.Sprintf("bench-%d-", time.Now().UnixNano()), stop: stop, names: map[string]bool{}}
	for i, m := range t {
		w.ended.Go(func() {
			p, err := dialSocket(m.socket, 1)
			if err != nil {
				return // no writes: awaitAfter says so
			}
			defer p.close()
			for n := 0; sleep(ctx, writePause) == nil; n++ {
				w.write(ctx, p[0], fmt.Sprintf("%s%d-%d", w.prefix, i, n))
			}
		})
	}
	return w
}

// write creates one config. What fails is not tried again: whether it was applied
// may be unknown, and another name is another write.
func (w *writers) write(ctx context.Context, conn *grpc.ClientConn, name string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	if _, err := createConfig(ctx, api.NewControlClient(conn), name, fewBytes); err != nil {
		conn.ResetConnectBackoff() // its manager may be back
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, ack{began, time.Now()})
	w.names[name] = true
}

func (w *writers) end() {
	w.stop()
	w.ended.Wait()
}

// awaitAfter returns when the first write that began after t was acknowledged.
func (w *writers) awaitAfter(ctx context.Context, t time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if at, ok := w.firstAfter(t); ok {
			return at, nil
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return time.Time{}, errors.New("check failed: no write was acknowledged for a minute")
		}
	}
}

func (w *writers) firstAfter(t time.Time) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return firstAfter(w.acked, t)
}

func firstAfter(acked []ack, t time.Time) (time.Time, bool) {
	// They are in the order of their arrival, and few have arrived since.
	i, _ := slices.BinarySearchFunc(acked, t, func(a ack, t time.Time) int { return a.at.Compare(t) })
	for _, a := range acked[i:] {
		if a.began.After(t) {
			return a.at, true
		}
	}
	return time.Time{}, false
}

// longestGap returns the longest time between two acknowledgements from one time
// to another.
func (w *writers) longestGap(from, to time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return longestGap(w.acked, from, to)
}

func longestGap(acked []ack, from, to time.Time) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range acked {
		if a.at.After(from) && a.at.Before(to) {
			last, longest = a.at, max(longest, a.at.Sub(last))
		}
	}
	return max(longest, to.Sub(last))
}

// check looks whether every acknowledged write is there.
func (w *writers) check(ctx context.Context, control api.ControlClient) error {
	r, err := control.ListConfigs(ctx, &api.ListConfigsRequest{Filters: &api.ListConfigsRequest_Filters{NamePrefixes: []string{w.prefix}}})
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(r.Configs))
	for _, c := range r.Configs {
		there[c.GetSpec().GetAnnotations().GetName()] = true
	}
	for name := range w.names {
		if !there[name] {
			return fmt.Errorf("check failed: the write of %s was acknowledged and is lost", name)
		}
	}
	return nil
}
