package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	osexec "os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/api/skep"
)

// health tells whether a process serves.
type health struct {
	probe       func(context.Context) error
	interval    time.Duration
	timeout     time.Duration
	startPeriod time.Duration
	retries     int
}

// Probes before the first success come quickly, so that a task runs as soon as
// it serves: 10 ms apart at first, 250 ms in the end.
const firstPause, longestPause = 10 * time.Millisecond, 250 * time.Millisecond

// newHealth returns nil when there is nothing to check.
func newHealth(check *skep.HealthCheck, ports []*api.PortConfig, command func(context.Context, []string) *osexec.Cmd) *health {
	h := &health{
		interval:    durationOr(check.GetInterval(), 10*time.Second),
		timeout:     durationOr(check.GetTimeout(), 5*time.Second),
		startPeriod: check.GetStartPeriod().AsDuration(),
		retries:     int(check.GetRetries()),
	}
	if h.retries == 0 {
		h.retries = 3
	}
	switch probe := check.GetProbe().(type) {
	case *skep.HealthCheck_Command:
		h.probe = func(ctx context.Context) error { return probeCommand(ctx, command, probe.Command.GetArgv()) }
	case *skep.HealthCheck_Http:
		port := portOf(probe.Http.GetPort(), ports)
		h.probe = func(ctx context.Context) error { return probeHTTP(ctx, port, probe.Http.GetPath()) }
	case *skep.HealthCheck_Tcp:
		port := portOf(probe.Tcp.GetPort(), ports)
		h.probe = func(ctx context.Context) error { return probeTCP(ctx, port) }
	default:
		return nil
	}
	return h
}

func durationOr(d *durationpb.Duration, unset time.Duration) time.Duration {
	if d == nil {
		return unset
	}
	return d.AsDuration()
}

// portOf returns the number on this node of the port that a probe names by its
// target; the first one when it names none.
func portOf(target uint32, ports []*api.PortConfig) uint32 {
	for _, port := range ports {
		if target == 0 || port.GetTargetPort() == target {
			return port.GetPublishedPort()
		}
	}
	return target
}

// checkHealth finds what is wrong with a check before it is ever used.
func checkHealth(check *skep.HealthCheck, ports []*api.PortConfig) error {
	for name, d := range map[string]*durationpb.Duration{
		"interval": check.GetInterval(), "timeout": check.GetTimeout(), "start period": check.GetStartPeriod(),
	} {
		if d == nil {
			continue
		}
		if value := d.AsDuration(); d.CheckValid() != nil || value < 0 || value == 0 && name != "start period" {
			return fmt.Errorf("health check: %s %v is no time to wait; give more than 0, or leave it out", name, value)
		}
	}
	port, needed := uint32(0), true
	switch probe := check.GetProbe().(type) {
	case *skep.HealthCheck_Command:
		if len(probe.Command.GetArgv()) == 0 {
			return errors.New("health check: the command is empty; give a program and its arguments")
		}
		needed = false
	case *skep.HealthCheck_Http:
		if path := probe.Http.GetPath(); !strings.HasPrefix(path, "/") {
			return fmt.Errorf("health check: path %q does not begin with a slash; give one as in /healthz", path)
		}
		port = probe.Http.GetPort()
	case *skep.HealthCheck_Tcp:
		port = probe.Tcp.GetPort()
	default:
		needed = false
	}
	if needed && port == 0 && len(ports) == 0 {
		return errors.New("health check: the task has no port to probe; publish one in host mode, or name the port in the check")
	}
	if port > 65535 {
		return fmt.Errorf("health check: there is no port %d; the highest is 65535", port)
	}
	return nil
}

// until returns when the process is healthy for the first time, or with an error
// when it does not become so: after the start period and then retries intervals.
func (h *health) until(ctx context.Context) error {
	pause, begin := firstPause, time.Now()
	for {
		err := h.once(ctx)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if time.Since(begin) >= h.startPeriod+time.Duration(h.retries)*h.interval {
			return unhealthy(err)
		}
		if err := sleep(ctx, min(pause, h.interval)); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

// while returns when the process is not healthy any more.
func (h *health) while(ctx context.Context) error {
	for failures := 0; ; {
		if err := sleep(ctx, h.interval); err != nil {
			return err
		}
		err := h.once(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err == nil {
			failures = 0
			continue
		}
		if failures++; failures >= h.retries {
			return unhealthy(err)
		}
	}
}

func (h *health) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	return h.probe(ctx)
}

func unhealthy(err error) error { return fmt.Errorf("task: unhealthy process: %w", err) }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func probeTCP(ctx context.Context, port uint32) error {
	conn, err := dialSelf(ctx, port)
	if err != nil {
		return fmt.Errorf("connect to port %d: %w", port, err)
	}
	return conn.Close()
}

// dialSelf connects to a port of this machine, whichever family it listens on.
func dialSelf(ctx context.Context, port uint32) (net.Conn, error) {
	number := strconv.FormatUint(uint64(port), 10)
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", number))
	if err == nil {
		return conn, nil
	}
	if conn, other := dialer.DialContext(ctx, "tcp", net.JoinHostPort("::1", number)); other == nil {
		return conn, nil
	}
	return nil, err
}

func probeHTTP(ctx context.Context, port uint32, path string) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialSelf(ctx, port)
		},
	}
	client := http.Client{
		Transport: transport,
		// A redirect is an answer, and may lead elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://localhost:%d%s", port, path), nil)
	if err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10)
	_ = response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("get %s from port %d: status %s", path, port, response.Status)
	}
	return nil
}

// probeCommand runs a command in the task's surroundings. When its time is up
// its whole process group is killed.
func probeCommand(ctx context.Context, command func(context.Context, []string) *osexec.Cmd, argv []string) error {
	var output excerpt
	cmd := command(ctx, argv)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s: %w%s", argv[0], err, output.quote())
	}
	return nil
}

// excerpt keeps the first few hundred bytes that a probe says.
type excerpt struct{ kept []byte }

func (b *excerpt) Write(p []byte) (int, error) {
	const limit = 256
	b.kept = append(b.kept, p[:min(len(p), limit-len(b.kept))]...)
	return len(p), nil
}

func (b *excerpt) quote() string {
	if text := strings.TrimSpace(string(b.kept)); text != "" {
		return ": " + text
	}
	return ""
}
