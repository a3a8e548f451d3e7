package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"skep/api"
)

func suiteCommand() *cobra.Command {
	s := &suite{}
	c := &cobra.Command{
		Use: "suite", Short: "Measure one of our managers in every way and compare with what is promised", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s.report = func(r result) error {
				s.missed = s.missed || r.Bar != "" && !r.Met
				return r.print(c.OutOrStdout(), c.ErrOrStderr())
			}
			if err := s.run(c.Context()); err != nil {
				return err
			}
			if s.missed {
				return errors.New("not every promise is kept, see the lines with ✗")
			}
			return nil
		},
	}
	c.Flags().StringVar(&s.swarmd, "swarmd", "bin/swarmd", "the manager to start")
	c.Flags().IntVar(&s.agents, "agents", 1000, "how many agents")
	c.Flags().StringVar(&s.only, "only", "", "measure this alone: start, empty, writes, writes3, certs, deploy, process, idle, failover or state")
	c.Flags().DurationVar(&s.each, "each", 3*time.Second, "how long each rate is measured")
	return c
}

// suite starts a manager for each measurement, in a directory of its own.
type suite struct {
	swarmd string
	only   string
	agents int
	each   time.Duration
	report func(result) error
	missed bool
}

func (s *suite) run(ctx context.Context) error {
	known := false
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{"start", s.start},
		{"empty", s.empty},
		{"writes", s.writes},
		{"writes3", s.replicated},
		{"certs", s.certs},
		{"deploy", s.deploy},
		{"process", s.process},
		{"idle", s.idle},
		{"failover", s.failover},
		{"state", s.state},
	} {
		if s.only != "" && s.only != part.name {
			continue
		}
		known = true
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if !known {
		return fmt.Errorf("nothing is called %q, see --help", s.only)
	}
	return nil
}

// failover measures the failover of as many tasks as are promised.
func (s *suite) failover(ctx context.Context) error {
	f := failover{suite: s, tasks: 50_000, kills: 10, stops: 3}
	return f.run(ctx)
}

// swarm is a manager under measurement.
type swarm struct {
	child
	suite        *suite
	dir          string
	addr, socket string
	executor     string
	join         []string // flags that let it join others
	pool         pool
	control      api.ControlClient
}

// swarm starts a new manager.
func (s *suite) newSwarm(ctx context.Context, executor string, join ...string) (*swarm, error) {
	dir, err := os.MkdirTemp("", "swarmbench")
	if err != nil {
		return nil, err
	}
	w := &swarm{suite: s, dir: dir, socket: filepath.Join(dir, "swarmd.sock"), executor: executor, join: join}
	if w.addr, err = freeAddr(); err == nil {
		err = w.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// start starts the manager and returns when it has answered.
func (w *swarm) start(ctx context.Context) (err error) {
	if w.child, err = start(ctx, w.socket, w.suite.swarmd, append([]string{
		"--state-dir", filepath.Join(w.dir, "state"), "--listen-control-api", w.socket,
		"--listen-remote-api", w.addr, "--executor", w.executor, "--log-level", "error",
	}, w.join...)...); err != nil {
		return err
	}
	if w.pool, err = dialSocket(w.socket, 1); err != nil {
		return err
	}
	w.control = api.NewControlClient(w.pool[0])
	return w.awaitAnswer(ctx)
}

// awaitAnswer asks until the manager answers: one that joins others, or was killed,
// has its socket before it has a leader.
func (w *swarm) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		r, err := w.control.ListNodes(ctx, &api.ListNodesRequest{})
		switch {
		case err == nil && len(r.Nodes) == 0:
			return errors.New("check failed: a manager that answers lists no node")
		case err == nil:
			return nil
		case sleep(ctx, 5*time.Millisecond) != nil:
			return fmt.Errorf("no answer within a minute: %w", err)
		}
	}
}

// kill ends the manager as a power cut would.
func (w *swarm) kill() {
	w.pool.close()
	w.child.stop()
}

func (w *swarm) end() {
	w.kill()
	removeTemporary(w.dir)
}

const (
	startBar    = 300 * time.Millisecond
	emptyMemory = 40 * megabyte
	emptyCore   = 0.005
	certsBar    = 2500 * time.Millisecond
	deployBar   = 5 * time.Second
	oneBar      = 50 * time.Millisecond
	replaceBar  = 100 * time.Millisecond
	writesOne   = 1.5
	// physicalPart of a limit of the machine is enough where that forbids what was promised.
	physicalPart = 0.7
	writesMany   = 0.5
	writesMost   = 0.6
	gatherTimes  = 6
	memoryTimes  = 1.5
)

func (s *suite) start(ctx context.Context) error {
	var all latencies
	for range 5 {
		began := time.Now()
		w, err := s.newSwarm(ctx, "none")
		if err != nil {
			return err
		}
		all = append(all, time.Since(began))
		w.end()
	}
	took := all.percentile(0.5)
	return s.report(result{Bench: "start", Params: "empty state directory", Value: milliseconds(took), Unit: "ms",
		Detail: "median of 5, to the first answer", Check: "the node is listed"}.promise("≤ 300 ms", took <= startBar))
}

func (s *suite) empty(ctx context.Context) error {
	w, err := s.newSwarm(ctx, "process")
	if err != nil {
		return err
	}
	defer w.end()
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	from, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	if err := sleep(ctx, 20*time.Second); err != nil {
		return err
	}
	to, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	core := coreShare(from, to)
	if err := s.report(result{Bench: "empty", Params: "memory", Value: float64(to.rss) / megabyte, Unit: "MiB",
		Check: "read from /proc"}.promise("≤ 40 MB", to.rss <= emptyMemory)); err != nil {
		return err
	}
	return s.report(result{Bench: "empty", Params: "CPU", Value: 100 * core, Unit: "% of core",
		Detail: "over 20 s", Check: "read from /proc"}.promise("≤ 0.5 % of a core", core <= emptyCore))
}

// rounds is how often rates are measured, in turn with their limits: what counts is
// the middle one, since a machine is rarely as quick as it was a minute ago.
const rounds = 3

func (s *suite) writes(ctx context.Context) error {
	return s.inRounds(ctx, s.writesRound, "every acknowledged config is there, also after kill -9 and a restart")
}

// inRounds measures several times and reports the middle of each result.
func (s *suite) inRounds(ctx context.Context, measure func(context.Context) ([]result, error), check string) error {
	var found [][]result
	for range rounds {
		results, err := measure(ctx)
		if err != nil {
			return err
		}
		if found == nil {
			found = make([][]result, len(results))
		}
		for i, r := range results {
			found[i] = append(found[i], r)
		}
	}
	for _, results := range found {
		r := middle(results)
		r.Check = check
		if err := s.report(r); err != nil {
			return err
		}
	}
	return nil
}

// writesRound measures the limits and the writes of a new manager, and looks
// whether what was acknowledged survives.
func (s *suite) writesRound(ctx context.Context) ([]result, error) {
	w, err := s.newSwarm(ctx, "none")
	if err != nil {
		return nil, err
	}
	defer w.end()
	l, err := measureLimits(ctx, s.each, 1, 64, 512)
	if err != nil {
		return nil, err
	}
	var by [3]writes
	for i, clients := range []int{1, 64, 512} {
		if by[i], err = measureWrites(ctx, w.socket, clients, s.each); err != nil {
			return nil, err
		}
	}
	w.kill()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	for _, run := range by {
		if err := run.check(ctx, w.pool[0]); err != nil {
			return nil, fmt.Errorf("after kill -9 and a restart: %w", err)
		}
	}
	others, err := etcdRates(ctx, 1, s.each, 1, 64, 512)
	if err != nil {
		return nil, err
	}
	one, many, most := by[0], by[1], by[2]
	p50, limit, physical := milliseconds(one.all.percentile(0.5)), milliseconds(l.sync+l.call), milliseconds(l.durable)
	times := many.rate() / one.rate()
	results := []result{
		result{Bench: "writes", Params: "clients=1, p50", Value: p50, Unit: "ms", Detail: fmt.Sprintf("a call that syncs takes %.2f ms, %.2f of it", physical, physical/p50)}.against(limit).
			promise("≤ 1.5 × fdatasync and an empty call, or 0.7 of a call that syncs", p50 <= writesOne*limit || physical >= physicalPart*p50),
		one.result(1).against(l.calls[1]),
		many.result(64).against(l.calls[64]).promise("≥ 0.5 × empty calls", many.rate() >= writesMany*l.calls[64]),
		result{Bench: "writes", Params: "64 clients beside 1", Value: times, Unit: "×", Ratio: times}.promise("≥ 6 × one client", times >= gatherTimes),
		most.result(512).against(l.calls[512]).promise("≥ 0.6 × empty calls", most.rate() >= writesMost*l.calls[512]),
	}
	for i, clients := range []int{1, 64, 512} {
		results = append(results, besideEtcd("writes", "", clients, by[i].rate(), others)...)
	}
	return results, nil
}

func (s *suite) certs(ctx context.Context) error {
	w, err := s.newSwarm(ctx, "none")
	if err != nil {
		return err
	}
	defer w.end()
	const n = 1000
	took, err := measureCerts(ctx, w.control, w.addr, n)
	if err != nil {
		return err
	}
	return s.report(certsResult(n, took).promise("≤ 2.5 s", took <= certsBar))
}

func (s *suite) deploy(ctx context.Context) error {
	w, err := s.newSwarm(ctx, "none")
	if err != nil {
		return err
	}
	defer w.end()
	f, err := startFleet(ctx, w.control, s.agents, w.addr)
	if err != nil {
		return err
	}
	defer f.end()
	var one latencies
	for range 20 {
		d, err := measureDeploy(ctx, w.control, f, 1)
		if err != nil {
			return err
		}
		one = append(one, d.took)
		if err := d.remove(ctx, w.control); err != nil {
			return err
		}
	}
	p50 := one.percentile(0.5)
	if err := s.report(result{Bench: "deploy", Params: fmt.Sprintf("agents=%d, replicas=1, p50", s.agents), Value: milliseconds(p50), Unit: "ms",
		Detail: one.String(), Check: "it runs on one of the agents"}.promise("≤ 50 ms", p50 <= oneBar)); err != nil {
		return err
	}
	for _, replicas := range []int{1000, 10_000} {
		d, err := measureDeploy(ctx, w.control, f, replicas)
		if err != nil {
			return err
		}
		r := d.result(s.agents, replicas)
		if replicas == 10_000 {
			used, err := usageOf(w.pid)
			if err != nil {
				return err
			}
			r.Detail += fmt.Sprintf(", manager at %d MiB", used.rss/megabyte)
			r = r.promise("≤ 5 s (the reference: 24 s)", d.took <= deployBar)
		}
		if err := s.report(r); err != nil {
			return err
		}
		if err := d.remove(ctx, w.control); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) idle(ctx context.Context) error {
	const watched = 15 * time.Second
	yard, err := measureBare(ctx, s.agents, watched)
	if err != nil {
		return err
	}
	w, err := s.newSwarm(ctx, "none")
	if err != nil {
		return err
	}
	defer w.end()
	got, err := measureIdle(ctx, w.control, w.addr, w.pid, s.agents, watched)
	if err != nil {
		return err
	}
	results := got.results(s.agents, yard)
	results[0] = results[0].promise("≤ 1.5 × a bare server", got.perAgent <= memoryTimes*yard.perAgent)
	for _, r := range results {
		if err := s.report(r); err != nil {
			return err
		}
	}
	return nil
}
