package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// etcdRates measures acknowledged writes of a cluster of etcd on this machine, by the
// number of clients: others that agree through raft on one log with fsync. It returns
// nothing where no etcd is installed.
func etcdRates(ctx context.Context, members int, d time.Duration, clients ...int) (map[int]float64, error) {
	rates := map[int]float64{}
	program, err := exec.LookPath("etcd")
	if err != nil {
		return rates, nil
	}
	e, err := newEtcd(ctx, program, members)
	if err != nil {
		return nil, err
	}
	defer e.end()
	for _, n := range clients {
		w, err := e.measure(ctx, n, d)
		if err != nil {
			return nil, err
		}
		rates[n] = w.rate()
	}
	return rates, nil
}

// besideEtcd relates the rate of n clients to that of as many clients of etcd.
func besideEtcd(bench, where string, n int, rate float64, etcd map[int]float64) []result {
	if etcd[n] == 0 {
		return nil
	}
	times := rate / etcd[n]
	return []result{result{Bench: bench, Params: fmt.Sprintf("%sclients=%d, beside etcd", where, n), Value: times, Unit: "×", Ratio: times,
		Detail: fmt.Sprintf("etcd: %.0f writes/s", etcd[n])}.promise("ahead of etcd", times > 1)}
}

// etcd is a cluster of members without TLS, whose clients come over Unix sockets.
type etcd struct {
	dir     string
	sockets []string
	members []child
}

// newEtcd starts n members and returns when they have taken a write.
func newEtcd(ctx context.Context, program string, n int) (e *etcd, err error) {
	e = &etcd{}
	defer func() {
		if err != nil {
			e.end()
		}
	}()
	if e.dir, err = os.MkdirTemp("", "swarmbench"); err != nil {
		return nil, err
	}
	var peers, cluster []string
	for i := range n {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		peers = append(peers, "http://"+addr)
		cluster = append(cluster, fmt.Sprintf("m%d=http://%s", i, addr))
		// etcd takes a path for a host, and demands a port.
		e.sockets = append(e.sockets, filepath.Join(e.dir, fmt.Sprintf("m%d:0", i)))
	}
	for i := range n {
		client := fmt.Sprintf("unix://m%d:0", i)
		cmd := exec.CommandContext(ctx, program, "--name", fmt.Sprintf("m%d", i), "--data-dir", fmt.Sprintf("data%d", i),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(cluster, ","), "--logger", "zap", "--log-level", "fatal")
		cmd.Dir = e.dir
		m, err := launch(cmd)
		if err != nil {
			return nil, err
		}
		e.members = append(e.members, m)
	}
	for _, socket := range e.sockets { // members serve once they have found one another
		if err := awaitSocket(ctx, socket, 20*time.Second); err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
	}
	p, err := dialSocket(e.sockets[0], 1)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return e, put(ctx, p[0], "first", "") // it waits for a leader
}

func (e *etcd) end() {
	for _, m := range e.members {
		m.stop()
	}
	removeTemporary(e.dir)
}

// measure puts keys through one member and then looks whether each acknowledged one is there.
func (e *etcd) measure(ctx context.Context, clients int, d time.Duration) (writes, error) {
	p, err := dialSocket(e.sockets[0], clients)
	if err != nil {
		return writes{}, err
	}
	defer p.close()
	w := writes{prefix: fmt.Sprintf("bench-%d-", time.Now().UnixNano())}
	var next atomic.Int64
	w.all, w.took, err = p.run(ctx, clients, d, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		return put(ctx, conn, fmt.Sprintf("%s%d", w.prefix, next.Add(1)), "a few bytes")
	})
	if err != nil {
		return w, fmt.Errorf("put into etcd: %w", err)
	}
	there, err := count(ctx, p[0], w.prefix)
	if err == nil && there != len(w.all) {
		err = fmt.Errorf("check failed: etcd acknowledged %d writes and has %d keys", len(w.all), there)
	}
	return w, err
}

// Field numbers of etcd's requests.
const (
	etcdKey       protowire.Number = 1 // of PutRequest and RangeRequest
	etcdValue     protowire.Number = 2 // of PutRequest
	etcdRangeEnd  protowire.Number = 2 // of RangeRequest
	etcdCountOnly protowire.Number = 9 // of RangeRequest
	etcdCount     protowire.Number = 4 // of RangeResponse
)

func put(ctx context.Context, conn *grpc.ClientConn, key, value string) error {
	request := protowire.AppendTag(nil, etcdKey, protowire.BytesType)
	request = protowire.AppendString(request, key)
	request = protowire.AppendTag(request, etcdValue, protowire.BytesType)
	request = protowire.AppendString(request, value)
	var response []byte
	return conn.Invoke(ctx, "/etcdserverpb.KV/Put", &request, &response, grpc.ForceCodec(rawCodec{}))
}

// count returns how many keys begin with prefix.
func count(ctx context.Context, conn *grpc.ClientConn, prefix string) (int, error) {
	end := slices.Clone([]byte(prefix))
	end[len(end)-1]++
	request := protowire.AppendTag(nil, etcdKey, protowire.BytesType)
	request = protowire.AppendString(request, prefix)
	request = protowire.AppendTag(request, etcdRangeEnd, protowire.BytesType)
	request = protowire.AppendBytes(request, end)
	request = protowire.AppendTag(request, etcdCountOnly, protowire.VarintType)
	request = protowire.AppendVarint(request, 1)
	var response []byte
	if err := conn.Invoke(ctx, "/etcdserverpb.KV/Range", &request, &response, grpc.ForceCodec(rawCodec{})); err != nil {
		return 0, err
	}
	for len(response) > 0 {
		number, kind, n := protowire.ConsumeTag(response)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		response = response[n:]
		if number == etcdCount && kind == protowire.VarintType {
			there, n := protowire.ConsumeVarint(response)
			return int(there), protowire.ParseError(n)
		}
		if n = protowire.ConsumeFieldValue(number, kind, response); n < 0 {
			return 0, protowire.ParseError(n)
		}
		response = response[n:]
	}
	return 0, nil // zero is not sent
}

// rawCodec passes messages on as the bytes that they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, errors.New("no bytes")
	}
	return *b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return errors.New("no bytes")
	}
	*b = slices.Clone(data)
	return nil
}

func (rawCodec) Name() string { return "proto" }
