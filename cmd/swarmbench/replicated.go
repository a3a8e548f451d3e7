package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

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
	var found [][]result
	for range rounds {
		results, err := s.replicatedRound(ctx)
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
		r.Bench, r.Check = "writes3", "every acknowledged config is on all three managers, also after kill -9 of the leader"
		if err := s.report(r); err != nil {
			return err
		}
	}
	return nil
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
	secure, err := secureCall(ctx, s.each)
	if err != nil {
		return nil, err
	}
	var all []writes
	var results []result
	middles := map[*swarm]time.Duration{}
	for _, m := range []*swarm{leader, follower} {
		where := map[bool]string{true: "leader", false: "follower"}[m == leader]
		for _, n := range counts {
			w, err := measureWrites(ctx, m.socket, n, s.each)
			if err != nil {
				return nil, err
			}
			all = append(all, w)
			r := w.result(n).against(l.calls[n])
			r.Params = fmt.Sprintf("%s, clients=%d", where, n)
			switch {
			case n == 1:
				middles[m] = w.all.percentile(0.5)
			case n == 64 && m == leader:
				r = r.promise("≥ 0.25 × empty calls", w.rate() >= replicatedPart*l.calls[n])
			}
			results = append(results, r)
		}
	}
	adds := middles[follower] - middles[leader]
	results = append(results, result{Params: "a follower adds, clients=1, p50", Value: milliseconds(adds), Unit: "ms"}.against(milliseconds(secure)).
		promise("≤ 1.5 × an empty mTLS call", float64(adds) <= followerTimes*float64(secure)))
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

// secureCall returns the median time of an empty call with mutual TLS to another
// process.
func secureCall(ctx context.Context, d time.Duration) (time.Duration, error) {
	dir, err := os.MkdirTemp("", "swarmbench")
	if err != nil {
		return 0, err
	}
	defer removeTemporary(dir)
	addr, err := freeAddr()
	if err != nil {
		return 0, err
	}
	y, err := newYard(dir)
	if err != nil {
		return 0, err
	}
	ready := filepath.Join(dir, "ready.sock")
	server, err := startSelf(ctx, ready, "bare-server", "--dir", dir, "--listen", addr, "--ready", ready)
	if err != nil {
		return 0, err
	}
	defer server.stop()
	cert, err := y.issue(api.NodeRole_MANAGER)
	if err != nil {
		return 0, err
	}
	conn, err := client.Dial(addr, ca.NewIdentity(y.root, cert, nil).ClientCredentials(ca.ManagerOU))
	if err != nil {
		return 0, err
	}
	p := pool{conn}
	defer p.close()
	all, _, err := p.run(ctx, 1, d, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		_, err := api.NewDispatcherClient(conn).Heartbeat(ctx, &api.HeartbeatRequest{})
		return err
	})
	return all.percentile(0.5), err
}
