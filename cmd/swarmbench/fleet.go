package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"skep/agent"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/ca"
	"skep/client"
)

// joiners is how many simulated agents join at once.
const joiners = 64

// fleet is a number of simulated agents: real certificates, a connection and a
// session each, tasks that run nothing.
type fleet struct {
	nodes    map[string]bool
	sessions sessions
	stop     context.CancelFunc
	ended    sync.WaitGroup
}

// startFleet joins n agents to the swarm of the managers at addrs and returns when
// it lists all of them as ready. An agent whose session ends asks any of them.
func startFleet(ctx context.Context, control api.ControlClient, n int, addrs ...string) (*fleet, error) {
	token, err := workerToken(ctx, control)
	if err != nil {
		return nil, err
	}
	identities, err := joinAll(ctx, addrs[0], token, n)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(ctx)
	f := &fleet{nodes: map[string]bool{}, stop: stop}
	for i, id := range identities {
		f.nodes[id.NodeID()] = true
		managers := client.NewManagers(addrs...)
		a, err := agent.New(agent.Config{
			NodeID: id.NodeID(), Executor: fake.New(fake.Config{}), Hostname: fmt.Sprintf("bench-%d", i),
			Connect: func(context.Context) (grpc.ClientConnInterface, func(error), error) {
				addr, _ := managers.Pick(rand.Float64()) // it always knows some
				conn, err := client.Dial(addr, id.ClientCredentials(ca.ManagerOU))
				if err != nil {
					return nil, nil, err
				}
				began := time.Now()
				return f.sessions.noting(conn, id.NodeID()), func(error) {
					if f.sessions.since(id.NodeID(), began) {
						managers.Succeeded(addr)
					} else {
						managers.Failed(addr)
					}
					_ = conn.Close()
				}, nil
			},
		})
		if err != nil {
			f.end()
			return nil, err
		}
		f.ended.Go(func() { _ = a.Run(run) }) // it ends when the fleet does
	}
	if err := f.awaitReady(ctx, control); err != nil {
		f.end()
		return nil, err
	}
	return f, nil
}

func (f *fleet) end() {
	f.stop()
	f.ended.Wait()
}

func (f *fleet) awaitReady(ctx context.Context, control api.ControlClient) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		r, err := control.ListNodes(ctx, &api.ListNodesRequest{})
		if err != nil {
			return fmt.Errorf("wait for the agents: %w", err)
		}
		ready := 0
		for _, n := range r.Nodes {
			if f.nodes[n.Id] && n.GetStatus().GetState() == api.NodeStatus_READY {
				ready++
			}
		}
		if ready == len(f.nodes) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("only %d of %d agents are ready", ready, len(f.nodes))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func workerToken(ctx context.Context, control api.ControlClient) (ca.Token, error) {
	r, err := control.ListClusters(ctx, &api.ListClustersRequest{})
	if err != nil {
		return ca.Token{}, err
	}
	if len(r.Clusters) == 0 {
		return ca.Token{}, errors.New("the manager lists no cluster")
	}
	return ca.ParseToken(r.Clusters[0].GetRootCa().GetJoinTokens().GetWorker())
}

// joinAll gets n identities, many at once.
func joinAll(ctx context.Context, addr string, token ca.Token, n int) ([]*ca.Identity, error) {
	joiner := &client.Joiner{Managers: client.NewManagers(addr), Version: "swarmbench"}
	root, err := joiner.DownloadRoot(ctx, token.Digest)
	if err != nil {
		return nil, err
	}
	identities := make([]*ca.Identity, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(joiners)
	for i := range identities {
		group.Go(func() error {
			cert, err := joiner.RequestCertificate(ctx, root, token, api.NodeSpec_ACTIVE)
			if err == nil {
				identities[i] = ca.NewIdentity(root, cert, nil)
			}
			return err
		})
	}
	return identities, group.Wait()
}

// freeAddr returns a loopback address with a port that is free now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
