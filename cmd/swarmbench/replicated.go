package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"skep/api"
	"skep/ca"
	"skep/client"
)

const (
	replicatedPart = 0.25
	followerTimes  = 1.5
)

// replicated measures acknowledged writes of three managers, on the leader and
// through a follower, beside the limits of the same minute.
func (s *suite) replicated(ctx context.Context) error {
	return s.inRounds(ctx, s.replicatedRound, "every acknowledged config is on all three managers, also after kill -9 of the leader")
}

func (s *suite) replicatedRound(ctx context.Context) ([]result, error) {
	t, err := s.newTrio(ctx)
	if err != nil {
		return nil, err
	}
	defer t.end()
	leader, err := t.awaitWhole(ctx)
	if err != nil {
		return nil, err
	}
	follower := t[0]
	if follower == leader {
		follower = t[1]
	}
	counts := []int{1, 64, 512}
	l, err := measureLimits(ctx, s.each, counts...)
	if err != nil {
		return nil, err
	}
	others, err := etcdRates(ctx, len(t), s.each, counts...)
	if err != nil {
		return nil, err
	}
	var all []writes
	var results, beside []result
	for _, m := range []*swarm{leader, follower} {
		where := map[bool]string{true: "leader, ", false: "follower, "}[m == leader]
		for _, n := range counts {
			w, err := measureWrites(ctx, m.socket, n, s.each)
			if err != nil {
				return nil, err
			}
			all = append(all, w)
			r := w.result(n).against(l.calls[n])
			r.Params = where + r.Params
			if n == 64 && m == leader {
				r = r.promise("≥ 0.25 × empty calls", w.rate() >= replicatedPart*l.calls[n])
			}
			results = append(results, r)
			if m == leader {
				beside = append(beside, besideEtcd("writes3", where, n, w.rate(), others)...)
			}
		}
	}
	for i := range results {
		results[i].Bench = "writes3"
	}
	h, err := measureHop(ctx, leader, follower, s.each)
	if err != nil {
		return nil, err
	}
	all = append(all, h.writes)
	results = append(append(results, beside...), h.result())
	leader.kill()
	if err := leader.start(ctx); err != nil {
		return nil, err
	}
	for _, m := range t {
		for _, w := range all {
			if err := w.check(ctx, m.pool[0]); err != nil {
				return nil, fmt.Errorf("after kill -9 of the leader: %w", err)
			}
		}
	}
	return results, nil
}

// hop is what it costs to ask a follower. One client asks the leader, a follower and
// a server that does nothing in turn, so that each meets the same machine.
type hop struct {
	writes                    writes
	leader, follower, nothing latencies
}

func (h hop) result() result {
	adds := h.follower.percentile(0.5) - h.leader.percentile(0.5)
	limit := h.nothing.percentile(0.5)
	return result{Bench: "writes3", Params: "a follower adds, clients=1, p50", Value: milliseconds(adds), Unit: "ms"}.against(milliseconds(limit)).
		promise("≤ 1.5 × an empty mTLS call", float64(adds) <= followerTimes*float64(limit))
}

func measureHop(ctx context.Context, leader, follower *swarm, d time.Duration) (h hop, err error) {
	dir, err := os.MkdirTemp("", "swarmbench")
	if err != nil {
		return h, err
	}
	defer removeTemporary(dir)
	bare, err := startBare(ctx, dir)
	if err != nil {
		return h, err
	}
	defer bare.stop()
	cert, err := bare.yard.issue(api.NodeRole_MANAGER)
	if err != nil {
		return h, err
	}
	nothing, err := client.Dial(bare.addr, ca.NewIdentity(bare.yard.root, cert, nil).ClientCredentials(ca.ManagerOU))
	if err != nil {
		return h, err
	}
	defer pool{nothing}.close()
	h.writes.prefix = fmt.Sprintf("bench-%d-", time.Now().UnixNano())
	write := func(m *swarm, all *latencies) error {
		began := time.Now()
		name := fmt.Sprintf("%s%d", h.writes.prefix, len(h.writes.all))
		if _, err := createConfig(ctx, m.control, name, fewBytes); err != nil {
			return err
		}
		took := time.Since(began)
		*all, h.writes.all = append(*all, took), append(h.writes.all, took)
		return nil
	}
	for start := time.Now(); time.Since(start) < d; {
		if err := write(leader, &h.leader); err != nil {
			return h, err
		}
		if err := write(follower, &h.follower); err != nil {
			return h, err
		}
		began := time.Now()
		if _, err := api.NewDispatcherClient(nothing).Heartbeat(ctx, &api.HeartbeatRequest{}); err != nil {
			return h, err
		}
		h.nothing = append(h.nothing, time.Since(began))
	}
	return h, nil
}
