package dispatcher_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"skep/agent/exec"
	"skep/agent/exec/fake"
	"skep/api"
	"skep/model"
	"skep/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestANodeThatRegistersIsReadyAndKnowsItsCluster(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.untilNode("n1", api.NodeStatus_READY)
		node := c.node("n1")
		if got := node.GetStatus().GetAddr(); got != "192.0.2.7" {
			c.Errorf("its address is %q, want the one it was seen at", got)
		}
		if got := node.GetDescription().GetHostname(); got != "fake" {
			c.Errorf("its hostname is %q", got)
		}
		said := m.message()
		if said.GetNode().GetId() != "n1" || string(said.GetRootCA()) != "root" || len(said.GetManagers()) != 1 || len(said.GetNetworkBootstrapKeys()) != 1 {
			c.Errorf("the first message is not complete: %v", said)
		}
		if len(m.executor.Keys()) != 1 || m.executor.Node().GetId() != "n1" {
			c.Errorf("the executor was not configured: %v, %v", m.executor.Keys(), m.executor.Node())
		}
	})
}

func TestARegistrationThatSaysNothingNewWritesNothing(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		c.untilNode("n1", api.NodeStatus_READY)
		m.stop()
		before := c.store.Read().Version()
		m.start()
		defer m.stop()
		c.until("it has a new session", func() bool { return m.sessionsSoFar() == 2 })
		if after := c.store.Read().Version(); after != before {
			c.Errorf("the store went from version %d to %d", before, after)
		}
	})
}

func TestATaskRunsStopsAndIsRemoved(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.create(task("t1", "n1"))
		c.untilState("t1", api.TaskState_RUNNING)
		got := c.task("t1").GetStatus()
		if got.GetAppliedBy() != "m" || got.GetAppliedAt() == nil || got.GetContainer().GetPid() == 0 {
			c.Errorf("the status is %v", got)
		}
		c.desire("t1", api.TaskState_SHUTDOWN)
		c.untilState("t1", api.TaskState_SHUTDOWN)
		c.remove(store.KindTask, "t1")
		c.until("nothing is left of it on the node", func() bool {
			records, _ := m.storage.Load()
			return len(m.executor.Running()) == 0 && len(records) == 0
		})
	})
}

func TestAllTransitionsOfABusyMomentReachTheManagerInOneGo(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.untilNode("n1", api.NodeStatus_READY)
		before := c.store.Read().Version()
		err := c.store.Update(c.Context(), func(tx *store.Tx) error {
			for _, id := range []string{"t1", "t2", "t3", "t4"} {
				if err := tx.Create(task(id, "n1")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			c.Fatal(err)
		}
		for _, id := range []string{"t1", "t2", "t3", "t4"} {
			c.untilState(id, api.TaskState_RUNNING)
		}
		// Each task takes five steps.
		if wrote := c.store.Read().Version() - before; wrote >= 20 {
			c.Errorf("%d transactions for four tasks", wrote)
		}
	})
}

func TestAnAgentThatRestartsAdoptsWhatStillRuns(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		c.create(task("t1", "n1"), task("t2", "n1"))
		c.untilState("t1", api.TaskState_RUNNING)
		c.untilState("t2", api.TaskState_RUNNING)
		pid := c.task("t1").GetStatus().GetContainer().GetPid()
		m.stop()
		m.executor.End("t2", 3)
		pass(time.Second)
		m.start()
		defer m.stop()
		c.untilState("t2", api.TaskState_FAILED)
		if got := c.task("t2").GetStatus().GetContainer().GetExitCode(); got != 3 {
			c.Errorf("t2 ended with exit code %d while the agent was away, want 3", got)
		}
		if got := c.task("t1").GetStatus(); got.GetState() != api.TaskState_RUNNING || got.GetContainer().GetPid() != pid {
			c.Errorf("t1 is %v, want the process that ran before", got)
		}
	})
}

func TestANodeWhoseHeartbeatsCeaseIsDownAndComesBack(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.create(task("t1", "n1"))
		c.untilState("t1", api.TaskState_RUNNING)
		pass(time.Minute)
		if got := c.node("n1").GetStatus().GetState(); got != api.NodeStatus_READY {
			c.Fatalf("it is %v though it sends heartbeats", got)
		}
		m.reach(false)
		cut := time.Now()
		c.untilNode("n1", api.NodeStatus_DOWN)
		if took := time.Since(cut); took < 9*time.Second || took > 17*time.Second {
			c.Errorf("it was DOWN after %v", took)
		}
		if got := c.node("n1").GetStatus().GetMessage(); got != "heartbeat failure" {
			c.Errorf("the message is %q", got)
		}
		m.reach(true)
		c.untilNode("n1", api.NodeStatus_READY)
		if got := c.node("n1").GetStatus().GetMessage(); got != "" {
			c.Errorf("it is back with the message %q", got)
		}
		if got := c.task("t1").GetStatus().GetState(); got != api.TaskState_RUNNING {
			c.Errorf("its task is %v", got)
		}
	})
}

func TestWhenAManagerStopsItsNodesLookForAnother(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.create(task("t1", "n1"))
		c.untilState("t1", api.TaskState_RUNNING)
		before := c.store.Read().Version()
		c.stop()
		pass(time.Second)
		c.lead()
		c.until("it has another session", func() bool { return m.sessionsSoFar() == 2 })
		pass(time.Minute)
		if got := c.node("n1").GetStatus().GetState(); got != api.NodeStatus_READY {
			c.Errorf("it is %v after the change", got)
		}
		if after := c.store.Read().Version(); after != before+1 { // n2, which never came
			c.Errorf("the change of leader wrote %d times", after-before)
		}
	})
}

func TestAfterAChangeOfLeaderNodesThatDoNotComeBackAreDown(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		c.untilNode("n1", api.NodeStatus_READY)
		c.stop()
		m.stop()
		c.lead()
		pass(29 * time.Second)
		if got := c.node("n1").GetStatus().GetState(); got != api.NodeStatus_READY {
			c.Fatalf("it is %v before its time was over", got)
		}
		pass(2 * time.Second)
		c.untilNode("n1", api.NodeStatus_DOWN)
	})
}

func TestSecretsReachATaskBeforeItStartsAndAreTakenBackAfter(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.create(
			&api.Secret{Id: "s1", Spec: &api.SecretSpec{Annotations: &api.Annotations{Name: "s1"}, Data: []byte("hush")}},
			&api.Config{Id: "s1", Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: "s1"}, Data: []byte("open")}},
			task("t1", "n1", "s1"),
			task("t2", "n1"),
		)
		c.untilState("t1", api.TaskState_RUNNING)
		c.untilState("t2", api.TaskState_RUNNING)
		deps := m.executor.dependencies("t1")
		secret, err := deps.Secret("s1")
		if err != nil || string(secret.GetSpec().GetData()) != "hush" {
			c.Fatalf("t1 got %v, %v", secret, err)
		}
		if config, err := deps.Config("s1"); err != nil || string(config.GetSpec().GetData()) != "open" {
			c.Fatalf("t1 got %v, %v", config, err)
		}
		if _, err := m.executor.dependencies("t2").Secret("s1"); err == nil || exec.IsTemporary(err) {
			c.Errorf("t2 may read a secret that it does not refer to (%v)", err)
		}
		c.desire("t1", api.TaskState_SHUTDOWN)
		c.until("the secret is gone", func() bool {
			_, err := deps.Secret("s1")
			return err != nil
		})
	})
}

func TestAMessageFollowsWhateverNodesAreToldOf(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.untilNode("n1", api.NodeStatus_READY)
		if _, err := store.Edit(c.Context(), c.store, "n1", nil, func(node *api.Node) error {
			node.Spec = model.Shallow(node.Spec)
			node.Spec.Availability = api.NodeSpec_DRAIN
			return nil
		}); err != nil {
			c.Fatal(err)
		}
		c.until("it knows that it is drained", func() bool {
			return m.executor.Node().GetSpec().GetAvailability() == api.NodeSpec_DRAIN
		})
		if _, err := store.Edit(c.Context(), c.store, "cluster", nil, func(cluster *api.Cluster) error {
			cluster.RootCa = &api.RootCA{CaCert: []byte("another root")}
			return nil
		}); err != nil {
			c.Fatal(err)
		}
		c.until("it knows the root CA", func() bool { return string(m.message().GetRootCA()) == "another root" })
		c.mu.Lock()
		c.peers = append(c.peers, &api.WeightedPeer{Peer: &api.Peer{NodeId: "m2", Addr: "10.0.0.2:2377"}, Weight: 10})
		close(c.others)
		c.others = make(chan struct{})
		c.mu.Unlock()
		c.until("it knows the managers", func() bool { return len(m.message().GetManagers()) == 2 })
		if m.message().GetNode() == nil || len(m.message().GetNetworkBootstrapKeys()) != 1 {
			c.Errorf("the message is not complete: %v", m.message())
		}
	})
}

func TestARemovedNodeLosesItsSessionAtOnce(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", nil)
		defer m.stop()
		c.untilNode("n1", api.NodeStatus_READY)
		client := api.NewDispatcherClient(c.conn("n1"))
		c.remove(store.KindNode, "n1")
		synctest.Wait()
		for _, id := range []string{m.message().GetSessionId()} {
			if _, err := client.Heartbeat(c.Context(), &api.HeartbeatRequest{SessionId: id}); err == nil {
				c.Errorf("session %s still counts", id)
			}
		}
		pass(time.Minute)
		if m.sessionsSoFar() != 1 {
			c.Errorf("it registered again: %d sessions", m.sessionsSoFar())
		}
	})
}

func TestLeavingStopsWhatRuns(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", func(*api.Task) fake.Script { return fake.Script{Stopping: time.Second} })
		defer m.stop()
		c.create(task("t1", "n1"), task("t2", "n1"))
		c.untilState("t1", api.TaskState_RUNNING)
		c.untilState("t2", api.TaskState_RUNNING)
		began := time.Now()
		if err := m.agent.Leave(c.Context()); err != nil {
			c.Fatal(err)
		}
		if took := time.Since(began); took != time.Second {
			c.Errorf("two tasks took %v to stop, want the time of one", took)
		}
		if left := m.executor.Running(); len(left) != 0 {
			c.Errorf("left behind: %v", left)
		}
	})
}

func TestLeavingInAHurryTerminates(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", func(*api.Task) fake.Script { return fake.Script{Stopping: time.Hour} })
		defer m.stop()
		c.create(task("t1", "n1"))
		c.untilState("t1", api.TaskState_RUNNING)
		ctx, cancel := context.WithTimeout(c.Context(), time.Second)
		defer cancel()
		if err := m.agent.Leave(ctx); err != nil {
			c.Fatal(err)
		}
		if left := m.executor.Running(); len(left) != 0 {
			c.Errorf("left behind: %v", left)
		}
	})
}

func TestLogsOfATaskAreReadOnItsMachine(t *testing.T) {
	inBubble(t, func(c *cluster) {
		m := c.machine("n1", func(*api.Task) fake.Script { return fake.Script{Output: []string{"one", "two", "three"}} })
		defer m.stop()
		c.create(task("t1", "n1"))
		c.untilState("t1", api.TaskState_RUNNING)
		var got string
		err := m.agent.TaskLogs(c.Context(), "t1", false, 2, func(message exec.LogMessage) error {
			got += string(message.Data)
			return nil
		})
		if err != nil || got != "two\nthree\n" {
			c.Errorf("got %q, %v", got, err)
		}
		if err := m.agent.TaskLogs(c.Context(), "t9", false, 0, nil); model.KindOf(err) != model.NotFound {
			c.Errorf("logs of a task that is not here: %v", err)
		}
	})
}
