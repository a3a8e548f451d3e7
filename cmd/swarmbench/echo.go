package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// measureSync appends small records to a file and waits for the disk each time,
// as a log does whose space was set aside before.
func measureSync(dir string, d time.Duration) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	const size = 16 << 20
	if err := f.Truncate(size); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, off); err != nil {
			return 0, errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	var all latencies
	record := make([]byte, 512)
	record[0] = 1
	for off, start := int64(0), time.Now(); time.Since(start) < d; off = (off + int64(len(record))) % size {
		began := time.Now()
		if _, err := f.WriteAt(record, off); err != nil {
			return 0, errors.Join(err, f.Close())
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
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
