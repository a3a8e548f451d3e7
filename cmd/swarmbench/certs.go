package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"skep/api"
	"skep/ca"
	"skep/client"
)

func certsCommand() *cobra.Command {
	var socket, addr string
	var n int
	c := &cobra.Command{
		Use: "certs", Short: "Have many new nodes' certificates issued", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := dialSocket(socket, 1)
			if err != nil {
				return err
			}
			defer p.close()
			took, err := measureCerts(c.Context(), api.NewControlClient(p[0]), addr, n)
			if err != nil {
				return err
			}
			return certsResult(n, took).print(c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&socket, "socket", "s", ".skep/swarmd.sock", "socket of the manager")
	c.Flags().StringVar(&addr, "addr", "127.0.0.1:4242", "remote address of the manager")
	c.Flags().IntVar(&n, "count", 1000, "how many certificates")
	return c
}

func certsResult(n int, took time.Duration) result {
	return result{Bench: "certs", Params: fmt.Sprintf("count=%d", n), Value: took.Seconds(), Unit: "s",
		Detail: "over 8 connections", Check: "every certificate is held against the root"}
}

// measureCerts asks for n certificates over a few connections and waits for each.
// Keys and requests are made before the time is taken.
func measureCerts(ctx context.Context, control api.ControlClient, addr string, n int) (time.Duration, error) {
	token, err := workerToken(ctx, control)
	if err != nil {
		return 0, err
	}
	root, err := (&client.Joiner{Managers: client.NewManagers(addr)}).DownloadRoot(ctx, token.Digest)
	if err != nil {
		return 0, err
	}
	var conns [maxConnections]*grpc.ClientConn
	for i := range conns {
		if conns[i], err = client.Dial(addr, ca.JoinCredentials(root, nil)); err != nil {
			return 0, err
		}
		defer conns[i].Close()
	}
	keys := make([]ca.Key, n)
	requests := make([][]byte, n)
	chains := make([][]byte, n)
	for i := range keys {
		if keys[i], err = ca.NewKey(); err != nil {
			return 0, err
		}
		if requests[i], err = keys[i].Request(); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range requests {
		group.Go(func() (err error) {
			chains[i], err = obtain(ctx, api.NewNodeCAClient(conns[i%len(conns)]), requests[i], token)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	took := time.Since(start)
	for i, chain := range chains {
		if _, err := ca.NewCertificate(root, chain, keys[i]); err != nil {
			return 0, fmt.Errorf("check failed: %w", err)
		}
	}
	return took, nil
}

func obtain(ctx context.Context, node api.NodeCAClient, request []byte, token ca.Token) ([]byte, error) {
	issued, err := node.IssueNodeCertificate(ctx, &api.IssueNodeCertificateRequest{Csr: request, Token: token.Reveal()})
	if err != nil {
		return nil, err
	}
	status, err := node.NodeCertificateStatus(ctx, &api.NodeCertificateStatusRequest{NodeId: issued.NodeId})
	if err != nil {
		return nil, err
	}
	if state := status.GetStatus().GetState(); state != api.IssuanceStatus_ISSUED {
		return nil, fmt.Errorf("certificate of %s is %s: %s", issued.NodeId, state, status.GetStatus().GetErr())
	}
	return status.GetCertificate().GetCertificate(), nil
}
