package manager

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/swarmkit/v2/api"
	stock "github.com/moby/swarmkit/v2/node"
)

// The whole of the library's node: what it keeps on disk, what brings it back.
func TestAStockNodeComesBackWithWhatItKept(t *testing.T) {
	t.Parallel()
	m := start(t)
	ctx, dir := library(t, m, "stock node"), t.TempDir()
	run := func(config stock.Config) (*stock.Node, *executor) {
		executor := newExecutor("stock")
		config.StateDir, config.Executor = dir, executor
		n := must(stock.New(&config))(t)
		if err := n.Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Stop(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("stop the node: %v", err)
			}
		})
		select {
		case <-n.Ready():
		case <-ctx.Done():
			t.Fatal("the node is not ready in time")
		}
		return n, executor
	}

	n, _ := run(stock.Config{JoinAddr: m.addr, JoinToken: m.cluster(t).RootCA.JoinTokens.Worker})
	web := m.create(t, service("web", 1))
	m.until(t, "a task runs on it", func() bool { return len(m.running(t, web.ID)) == 1 })
	id := n.NodeID()
	if got := m.running(t, web.ID)[0].NodeID; got != id {
		t.Errorf("the task runs on %s, the node is %s", got, id)
	}
	if state := string(must(os.ReadFile(filepath.Join(dir, "state.json")))(t)); !strings.Contains(state, m.addr) || !strings.Contains(state, m.own) {
		t.Errorf("the node keeps %s, want the manager's ID and address", state)
	}
	if err := n.Stop(ctx); err != nil {
		t.Fatal(err)
	}

	again, executor := run(stock.Config{})
	if again.NodeID() != id {
		t.Errorf("it came back as %s, was %s", again.NodeID(), id)
	}
	executor.until(ctx, t, "its task is assigned to it again", func() bool { return len(executor.runs) > 0 })
	m.until(t, "a task runs on it again", func() bool {
		tasks := m.running(t, web.ID)
		return len(tasks) == 1 && m.node(t, id).Status.State == api.NodeStatus_READY
	})
	if got := len(m.nodes(t)); got != 2 {
		t.Errorf("there are %d nodes, want the manager and the worker", got)
	}
}

func TestAManagerThatCrashedFindsItsWorkersAndTheirTasks(t *testing.T) {
	t.Parallel()
	m := start(t)
	w := m.worker(t, "worker")
	secret, config := m.createSecret(t, "password", "hunter2"), m.createConfig(t, "web.conf", "listen 80")
	web := m.create(t, withFiles(service("web", 2), secret, config))
	m.until(t, "two tasks run", func() bool { return len(m.running(t, web.ID)) == 2 })
	before, nodes := m.running(t, web.ID), m.nodes(t)

	m.crash(t)
	if got := m.nodes(t); !sameIDs(got, nodes) {
		t.Errorf("after the crash there are nodes %v, before %v", got, nodes)
	}
	w.executor.until(m.ctx, t, "the worker has another session", func() bool { return w.sessions == 2 })
	m.update(t, web.ID, func(s *api.ServiceSpec) { s.GetReplicated().Replicas = 3 })
	m.until(t, "a third task runs", func() bool { return len(m.running(t, web.ID)) == 3 })
	after := m.running(t, web.ID)
	for _, task := range before {
		if !slices.ContainsFunc(after, func(is *api.Task) bool { return is.ID == task.ID }) {
			t.Errorf("task %s ran before the crash; now there are %v", task.ID, after)
		}
	}
	w.executor.until(m.ctx, t, "the third has its secret", func() bool {
		for _, r := range w.executor.runs {
			if r.removed || r.secret != "hunter2" {
				return false
			}
		}
		return len(w.executor.runs) == 3
	})
}
