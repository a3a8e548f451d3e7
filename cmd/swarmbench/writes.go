package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"skep/api"
)

func writesCommand() *cobra.Command {
	var socket string
	var clients int
	var seconds float64
	c := &cobra.Command{
		Use: "writes", Short: "Create configs over the socket as fast as they are acknowledged", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := time.Duration(seconds * float64(time.Second))
			l, err := measureLimits(c.Context(), d, 1, clients)
			if err != nil {
				return err
			}
			w, err := measureWrites(c.Context(), socket, clients, d)
			if err != nil {
				return err
			}
			return w.result(clients).against(l.calls[clients]).print(c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&socket, "socket", "s", ".skep/swarmd.sock", "socket of the manager")
	c.Flags().IntVar(&clients, "clients", 64, "how many clients write at once")
	c.Flags().Float64Var(&seconds, "seconds", 3, "how long they write")
	return c
}

// writes is what a run of acknowledged writes found.
type writes struct {
	all    latencies
	took   time.Duration
	prefix string
}

func (w writes) rate() float64 { return float64(len(w.all)) / w.took.Seconds() }

func (w writes) result(clients int) result {
	return result{Bench: "writes", Params: fmt.Sprintf("clients=%d", clients), Value: w.rate(), Unit: "writes/s",
		Detail: w.all.String(), Check: "every acknowledged config is listed"}
}

// measureWrites creates configs and then looks whether each acknowledged one is there.
func measureWrites(ctx context.Context, socket string, clients int, d time.Duration) (writes, error) {
	p, err := dialSocket(socket, clients)
	if err != nil {
		return writes{}, err
	}
	defer p.close()
	w := writes{prefix: fmt.Sprintf("bench-%d-", time.Now().UnixNano())}
	var next atomic.Int64
	w.all, w.took, err = p.run(ctx, clients, d, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		_, err := createConfig(ctx, api.NewControlClient(conn), fmt.Sprintf("%s%d", w.prefix, next.Add(1)), fewBytes)
		return err
	})
	if err != nil {
		return w, err
	}
	return w, w.check(ctx, p[0])
}

// check counts the configs of this run.
func (w writes) check(ctx context.Context, conn *grpc.ClientConn) error {
	r, err := api.NewControlClient(conn).ListConfigs(ctx, &api.ListConfigsRequest{Filters: &api.ListConfigsRequest_Filters{NamePrefixes: []string{w.prefix}}})
	if err != nil {
		return err
	}
	if len(r.Configs) != len(w.all) {
		return fmt.Errorf("check failed: %d writes were acknowledged, %d configs are there", len(w.all), len(r.Configs))
	}
	return nil
}

// fewBytes is what most configs hold here.
const fewBytes = "a few bytes"

func createConfig(ctx context.Context, control api.ControlClient, name, data string) (*api.Config, error) {
	r, err := control.CreateConfig(ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: name}, Data: []byte(data)}})
	if err != nil {
		return nil, fmt.Errorf("create a config: %w", err)
	}
	return r.Config, nil
}
