package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"

	"skep/api"
	"skep/client"
)

const (
	// requestLimit is how long a request of a writer may take in all, with its retries.
	requestLimit = 20 * time.Second
	// lull is how long a writer rests between two requests.
	lull = 5 * time.Millisecond
	// loadLabel holds what a writer wrote last.
	loadLabel = "written"
)

// A load is several writers at work while a script goes on. Each has a config of its own, whose
// label it counts up and reads back, and takes the next socket for every request. It makes
// a request again only where client.Retry does: any other failure is one.
type load struct {
	cancel  context.CancelFunc
	writers sync.WaitGroup
	conns   []*grpc.ClientConn

	mu       sync.Mutex
	requests int
	longest  time.Duration
	failures []string
}

// loads are those of scripts that run now, by the script's directory.
type loads struct{ byScript sync.Map }

// command is load start WRITERS SOCKET… and load stop, which fails if a request failed.
func (l *loads) command(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case !neg && len(args) > 2 && args[0] == "start":
		count, err := strconv.Atoi(args[1])
		ts.Check(err)
		l.start(ts, count, args[2:])
	case !neg && len(args) == 1 && args[0] == "stop":
		running, ok := l.byScript.LoadAndDelete(ts.Getenv("WORK"))
		if !ok {
			ts.Fatalf("no load was started")
		}
		w, _ := running.(*load)
		ts.Check(w.stop())
		if len(w.failures) > 0 {
			ts.Fatalf("%d of %d requests failed:\n%s", len(w.failures), w.requests, strings.Join(w.failures, "\n"))
		}
		_, err := fmt.Fprintf(ts.Stdout(), "%d requests, none failed, the longest took %s\n", w.requests, w.longest.Round(time.Millisecond))
		ts.Check(err)
	default:
		ts.Fatalf("usage: load start WRITERS SOCKET… | load stop")
	}
}

func (l *loads) start(ts *testscript.TestScript, count int, sockets []string) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &load{cancel: cancel}
	for _, socket := range sockets {
		conn, err := client.DialSocket(ts.MkAbs(socket), client.Retry())
		ts.Check(err)
		w.conns = append(w.conns, conn)
	}
	if _, twice := l.byScript.LoadOrStore(ts.Getenv("WORK"), w); twice {
		ts.Fatalf("a load runs already")
	}
	ts.Defer(func() { _ = w.stop() })
	for i := range count {
		w.writers.Go(func() { w.write(ctx, i) })
	}
}

func (w *load) stop() error {
	w.cancel()
	w.writers.Wait()
	var errs []error
	for _, conn := range w.conns {
		errs = append(errs, conn.Close())
	}
	w.conns = nil
	return errors.Join(errs...)
}

// write counts up until ctx ends. A request that is under way then is finished.
func (w *load) write(ctx context.Context, id int) {
	turn := id
	request := func(what string, f func(context.Context, api.ControlClient) error) bool {
		turn++
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
		defer cancel()
		began := time.Now()
		err := f(limited, api.NewControlClient(w.conns[turn%len(w.conns)]))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.requests++
		w.longest = max(w.longest, time.Since(began))
		if err != nil {
			w.failures = append(w.failures, fmt.Sprintf("%s writer %d, socket %d, %s after %s: %v", began.Format(time.StampMilli), id, turn%len(w.conns), what, time.Since(began), err))
		}
		return err == nil
	}
	spec := func(n int) *api.ConfigSpec {
		name := fmt.Sprintf("load-%d", id)
		return &api.ConfigSpec{Annotations: &api.Annotations{Name: name, Labels: map[string]string{loadLabel: strconv.Itoa(n)}}, Data: []byte(name)}
	}
	var config *api.Config
	if !request("create", func(ctx context.Context, c api.ControlClient) error {
		r, err := c.CreateConfig(ctx, &api.CreateConfigRequest{Spec: spec(0)})
		config = r.GetConfig()
		return err
	}) {
		return
	}
	for n := 1; ctx.Err() == nil; n++ {
		ok := request("update", func(ctx context.Context, c api.ControlClient) error {
			r, err := c.UpdateConfig(ctx, &api.UpdateConfigRequest{ConfigId: config.GetId(), ConfigVersion: config.GetMeta().GetVersion(), Spec: spec(n)})
			config = r.GetConfig()
			return err
		}) && request("read", func(ctx context.Context, c api.ControlClient) error {
			r, err := c.GetConfig(ctx, &api.GetConfigRequest{ConfigId: config.GetId()})
			if got := r.GetConfig().GetSpec().GetAnnotations().GetLabels()[loadLabel]; err == nil && got != strconv.Itoa(n) {
				err = fmt.Errorf("read %q after %d was acknowledged", got, n)
			}
			return err
		})
		if !ok {
			return
		}
		select {
		case <-time.After(lull):
		case <-ctx.Done():
		}
	}
}
