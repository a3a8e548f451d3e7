package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"skep/api"
)

// limits are what the machine can do at this minute.
type limits struct {
	// sync is the median time of one small append with fdatasync.
	sync time.Duration
	// calls is the rate of empty calls between two processes, by number of
	// clients; call is the median time of one with a single client.
	calls map[int]float64
	call  time.Duration
	// durable is the median time of a call that is answered after an fdatasync, with a single
	// client: more than sync and call together, since a disk that rests between two calls, and
	// a processor that waits for it, wake up more slowly than in a loop of nothing else.
	durable time.Duration
}

func echoCommand() *cobra.Command {
	var seconds float64
	c := &cobra.Command{
		Use: "echo", Short: "Measure the limits: fdatasync, and empty calls between two processes", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := measureLimits(c.Context(), time.Duration(seconds*float64(time.Second)), 1, 64, 512)
			if err != nil {
				return err
			}
			results := []result{{Bench: "echo", Params: "fdatasync", Value: milliseconds(l.sync), Unit: "ms", Check: "every write returned"}}
			results = append(results, result{Bench: "echo", Params: "a call that syncs, clients=1, p50", Value: milliseconds(l.durable), Unit: "ms", Check: "every call answered"})
			for _, n := range []int{1, 64, 512} {
				results = append(results, result{Bench: "echo", Params: fmt.Sprintf("empty calls, clients=%d", n), Value: l.calls[n], Unit: "calls/s", Check: "every call answered"})
			}
			for _, r := range results {
				if err := r.print(c.OutOrStdout(), c.ErrOrStderr()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().Float64Var(&seconds, "seconds", 2, "how long each measurement takes")
	return c
}

func measureLimits(ctx context.Context, d time.Duration, clients ...int) (limits, error) {
	dir, err := os.MkdirTemp("", "swarmbench")
	if err != nil {
		return limits{}, err
	}
	defer removeTemporary(dir)
	l := limits{calls: map[int]float64{}}
	if l.sync, err = measureSync(dir, d); err != nil {
		return l, err
	}
	if l.durable, err = measureDurable(ctx, dir, d); err != nil {
		return l, err
	}
	socket := filepath.Join(dir, "echo.sock")
	server, err := startSelf(ctx, socket, "echo-server", "--socket", socket)
	if err != nil {
		return l, err
	}
	defer server.stop()
	for _, n := range clients {
		all, took, err := emptyCalls(ctx, socket, n, d)
		if err != nil {
			return l, err
		}
		l.calls[n] = float64(len(all)) / took.Seconds()
		if n == 1 {
			l.call = all.percentile(0.5)
		}
	}
	return l, nil
}

// removeTemporary removes a directory that was made for one measurement.
func removeTemporary(dir string) {
	_ = os.RemoveAll(dir) // it is in the temporary directory: nobody misses what stays
}

func emptyCalls(ctx context.Context, socket string, clients int, d time.Duration) (latencies, time.Duration, error) {
	p, err := dialSocket(socket, clients)
	if err != nil {
		return nil, 0, err
	}
	defer p.close()
	return p.run(ctx, clients, d, func(ctx context.Context, conn *grpc.ClientConn, _ int) error {
		_, err := api.NewHealthClient(conn).Check(ctx, &api.HealthCheckRequest{})
		return err
	})
}

func measureDurable(ctx context.Context, dir string, d time.Duration) (time.Duration, error) {
	socket := filepath.Join(dir, "durable.sock")
	server, err := startSelf(ctx, socket, "echo-server", "--socket", socket, "--log", filepath.Join(dir, "durable"))
	if err != nil {
		return 0, err
	}
	defer server.stop()
	all, _, err := emptyCalls(ctx, socket, 1, d)
	return all.percentile(0.5), err
}

// syncedFile takes small records as a log does whose space was set aside before.
type syncedFile struct {
	*os.File
	mu     sync.Mutex
	end    int64
	record [512]byte
}

// syncedBytes is how much space is set aside; then records replace the first ones.
const syncedBytes = 16 << 20

func newSyncedFile(name string) (*syncedFile, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < syncedBytes; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, off); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &syncedFile{File: f, record: [512]byte{1}}, nil
}

// append returns when a record is on the disk.
func (s *syncedFile) append() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.WriteAt(s.record[:], s.end); err != nil {
		return err
	}
	s.end = (s.end + int64(len(s.record))) % syncedBytes
	return unix.Fdatasync(int(s.Fd()))
}

// measureSync appends again and again.
func measureSync(dir string, d time.Duration) (time.Duration, error) {
	f, err := newSyncedFile(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	var all latencies
	for start := time.Now(); time.Since(start) < d; {
		began := time.Now()
		if err := f.append(); err != nil {
			return 0, errors.Join(err, f.Close())
		}
		all = append(all, time.Since(began))
	}
	return all.percentile(0.5), f.Close()
}

// child is a server in another process.
type child struct {
	pid  int
	stop func()
}

// startSelf starts this program again as a server and returns when its socket is
// there.
func startSelf(ctx context.Context, socket string, args ...string) (child, error) {
	self, err := os.Executable()
	if err != nil {
		return child{}, err
	}
	return start(ctx, socket, self, args...)
}

// start starts a program and returns when the socket that it serves is there.
func start(ctx context.Context, socket, program string, args ...string) (child, error) {
	c, err := launch(exec.CommandContext(ctx, program, args...))
	if err != nil {
		return child{}, err
	}
	if err := awaitSocket(ctx, socket, 10*time.Second); err != nil {
		c.stop()
		return child{}, err
	}
	return c, nil
}

// launch starts a program.
func launch(cmd *exec.Cmd) (child, error) {
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return child{}, err
	}
	return child{pid: cmd.Process.Pid, stop: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed: that is its result
	}}, nil
}

// awaitSocket returns when something serves the socket.
func awaitSocket(ctx context.Context, path string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing serves %s after %s: %w", path, limit, err)
		case <-time.After(time.Millisecond):
		}
	}
}
