package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Clients share at most this many connections.
const maxConnections = 8

// pool is a few connections that many clients share.
type pool []*grpc.ClientConn

func dialSocket(path string, clients int) (pool, error) {
	var p pool
	for range min(clients, maxConnections) {
		conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
		if err != nil {
			p.close()
			return nil, fmt.Errorf("connect to %s: %w", path, err)
		}
		p = append(p, conn)
	}
	return p, nil
}

func (p pool) close() {
	for _, conn := range p {
		_ = conn.Close() // nothing is left to lose
	}
}

// run lets n clients call as fast as they are answered, for as long as d, and
// returns how long each call took. client is from 0 to n-1; the first error ends it.
func (p pool) run(ctx context.Context, n int, d time.Duration, call func(ctx context.Context, conn *grpc.ClientConn, client int) error) (latencies, time.Duration, error) {
	var mu sync.Mutex
	var all latencies
	var failed error
	var wait sync.WaitGroup
	start := time.Now()
	for i := range n {
		wait.Go(func() {
			var mine latencies
			var err error
			for err == nil && ctx.Err() == nil && time.Since(start) < d {
				began := time.Now()
				if err = call(ctx, p[i%len(p)], i); err == nil {
					mine = append(mine, time.Since(began))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			if failed == nil {
				failed = err
			}
		})
	}
	wait.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return all, time.Since(start), failed
}
