package dispatcher_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/store"
)

// client speaks the protocol by hand, as one node.
type client struct {
	api.DispatcherClient
	c    *cluster
	stop func()
}

func (c *cluster) client(node string) *client {
	conn := c.conn(node)
	return &client{api.NewDispatcherClient(conn), c, conn.Close}
}

// session registers and returns the first message.
func (n *client) session(id string) (*api.SessionMessage, grpc.ServerStreamingClient[api.SessionMessage], error) {
	n.c.Helper()
	stream, err := n.Session(n.c.Context(), &api.SessionRequest{SessionId: id, Description: &api.NodeDescription{Hostname: "by-hand"}})
	if err != nil {
		return nil, nil, err
	}
	message, err := stream.Recv()
	return message, stream, err
}

// register is session for those to whom it must succeed.
func (n *client) register() string {
	n.c.Helper()
	message, _, err := n.session("")
	if err != nil {
		n.c.Fatal(err)
	}
	return message.GetSessionId()
}

func (n *client) heartbeat(id string) error {
	_, err := n.Heartbeat(n.c.Context(), &api.HeartbeatRequest{SessionId: id})
	return err
}

func (n *client) report(id string, updates ...*api.UpdateTaskStatusRequest_TaskStatusUpdate) error {
	_, err := n.UpdateTaskStatus(n.c.Context(), &api.UpdateTaskStatusRequest{SessionId: id, Updates: updates})
	return err
}

func update(task string, state api.TaskState) *api.UpdateTaskStatusRequest_TaskStatusUpdate {
	return &api.UpdateTaskStatusRequest_TaskStatusUpdate{TaskId: task, Status: &api.TaskStatus{State: state, Timestamp: timestamppb.New(time.Unix(int64(state), 0))}}
}

func TestANewSessionOfANodeEndsItsOldOne(t *testing.T) {
	inBubble(t, func(c *cluster) {
		first, second := c.client("n1"), c.client("n1")
		defer first.stop()
		defer second.stop()
		message, stream, err := first.session("")
		if err != nil {
			c.Fatal(err)
		}
		replaced := second.register()
		_, err = stream.Recv()
		codeOf(c.T, err, codes.Aborted)
		codeOf(c.T, first.heartbeat(message.GetSessionId()), codes.InvalidArgument)
		codeOf(c.T, second.heartbeat(replaced), codes.OK)
	})
}

func TestAnotherMachineTakesNoSessionThatLasts(t *testing.T) {
	inBubble(t, func(c *cluster) {
		first := c.client("n1")
		defer first.stop()
		message, stream, err := first.session("")
		if err != nil {
			c.Fatal(err)
		}
		conn := c.connFrom("n1", "192.0.2.8:4711")
		second := &client{api.NewDispatcherClient(conn), c, conn.Close}
		defer second.stop()
		for range 5 { // and the first is not held to have registered too often
			_, _, err = second.session("")
			codeOf(c.T, err, codes.Unavailable)
		}
		codeOf(c.T, first.heartbeat(message.GetSessionId()), codes.OK)
		// A node that has moved names its session.
		moved, _, err := second.session(message.GetSessionId())
		if err != nil || moved.GetSessionId() != message.GetSessionId() {
			c.Fatalf("got session %q, %v, want %q", moved.GetSessionId(), err, message.GetSessionId())
		}
		_, err = stream.Recv()
		codeOf(c.T, err, codes.Aborted)
		// When the session is over, anybody gets the next.
		pass(time.Minute)
		second.register()
	})
}

func TestASessionIsResumedByItsID(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		first, old, err := n.session("")
		if err != nil {
			c.Fatal(err)
		}
		for range 5 { // and that is no registration
			again, stream, err := n.session(first.GetSessionId())
			if err != nil || again.GetSessionId() != first.GetSessionId() {
				c.Fatalf("got session %q, %v, want %q", again.GetSessionId(), err, first.GetSessionId())
			}
			_, err = old.Recv()
			codeOf(c.T, err, codes.Aborted)
			old = stream
		}
	})
}

func TestWhoRegistersTooOftenHasToWait(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		for range 3 {
			n.register()
		}
		_, _, err := n.session("")
		codeOf(c.T, err, codes.Unavailable)
		other := c.client("n2")
		defer other.stop()
		other.register()
		pass(9 * time.Second)
		n.register()
	})
}

func TestAnUnknownNodeIsNotRegistered(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n9")
		defer n.stop()
		_, _, err := n.session("")
		codeOf(c.T, err, codes.NotFound)
		codeOf(c.T, n.heartbeat(""), codes.NotFound)
		nobody := c.client("")
		defer nobody.stop()
		_, _, err = nobody.session("")
		codeOf(c.T, err, codes.PermissionDenied)
		codeOf(c.T, nobody.heartbeat(""), codes.PermissionDenied)
	})
}

func TestBeforeItLeadsAManagerServesNobody(t *testing.T) {
	inBubble(t, func(c *cluster) {
		c.stop()
		n := c.client("n1")
		defer n.stop()
		_, _, err := n.session("")
		codeOf(c.T, err, codes.Unavailable)
		codeOf(c.T, n.heartbeat(""), codes.Unavailable)
	})
}

func TestHeartbeatsFollowTheClusterAndSpread(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		seen := map[time.Duration]bool{}
		between := func(least, most time.Duration) {
			c.Helper()
			clear(seen)
			for range 50 {
				answer, err := n.Heartbeat(c.Context(), &api.HeartbeatRequest{SessionId: id})
				if err != nil {
					c.Fatal(err)
				}
				period := answer.GetPeriod().AsDuration()
				if period < least || period > most {
					c.Fatalf("the period is %v, want one from %v to %v", period, least, most)
				}
				seen[period] = true
			}
			if len(seen) < 10 {
				c.Errorf("50 heartbeats have %d periods", len(seen))
			}
		}
		between(4500*time.Millisecond, 5500*time.Millisecond)
		if _, err := store.Edit(c.Context(), c.store, "cluster", nil, func(cluster *api.Cluster) error {
			cluster.Spec = &api.ClusterSpec{Dispatcher: &api.DispatcherConfig{HeartbeatPeriod: durationpb.New(time.Second)}}
			return nil
		}); err != nil {
			c.Fatal(err)
		}
		synctest.Wait()
		between(900*time.Millisecond, 1100*time.Millisecond)
		pass(4 * time.Second)
		synctest.Wait()
		codeOf(c.T, n.heartbeat(id), codes.NotFound)
	})
}

func TestANodeIsHeldToAShorterPeriodOnlyOnceItKnowsIt(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		codeOf(c.T, n.heartbeat(id), codes.OK)
		if _, err := store.Edit(c.Context(), c.store, "cluster", nil, func(cluster *api.Cluster) error {
			cluster.Spec = &api.ClusterSpec{Dispatcher: &api.DispatcherConfig{HeartbeatPeriod: durationpb.New(time.Second)}}
			return nil
		}); err != nil {
			c.Fatal(err)
		}
		synctest.Wait()
		codeOf(c.T, n.report(id), codes.OK)
		pass(4 * time.Second)
		synctest.Wait()
		if got := c.node("n1").GetStatus().GetState(); got != api.NodeStatus_READY {
			c.Errorf("it is %v before its next heartbeat is due", got)
		}
		codeOf(c.T, n.heartbeat(id), codes.OK)
		pass(4 * time.Second)
		synctest.Wait()
		if got := c.node("n1").GetStatus().GetState(); got != api.NodeStatus_DOWN {
			c.Errorf("it is %v four periods after it was told of the shorter one", got)
		}
	})
}

func TestAnyMessageOfASessionCountsAsAHeartbeat(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		for range 10 {
			pass(10 * time.Second)
			codeOf(c.T, n.report(id), codes.OK)
		}
		if got := c.node("n1").GetStatus().GetState(); got != api.NodeStatus_READY {
			c.Errorf("it is %v", got)
		}
	})
}

func TestOneForeignItemIsRefusedAlone(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		c.create(task("mine", "n1"), task("foreign", "n2"))
		err := n.report(id,
			update("foreign", api.TaskState_FAILED),
			update("no such task", api.TaskState_RUNNING),
			nil,
			&api.UpdateTaskStatusRequest_TaskStatusUpdate{TaskId: "mine"},
			update("mine", api.TaskState_RUNNING))
		codeOf(c.T, err, codes.PermissionDenied)
		if got := c.task("mine").GetStatus().GetState(); got != api.TaskState_RUNNING {
			c.Errorf("the node's own task is %v", got)
		}
		if got := c.task("foreign").GetStatus().GetState(); got != api.TaskState_ASSIGNED {
			c.Errorf("the task of another node is %v", got)
		}
	})
}

func TestAStateNeverGoesBackAndIsOneThatANodeMayReport(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		early := task("early", "n1") // its node is known, but it is not assigned yet
		early.Status.State = api.TaskState_PENDING
		c.create(task("t", "n1"), early)
		report := func(task string, state, want api.TaskState) {
			c.Helper()
			before := c.store.Read().Version()
			codeOf(c.T, n.report(id, update(task, state)), codes.OK)
			if got := c.task(task).GetStatus().GetState(); got != want {
				c.Errorf("%s is %v after a report of %v, want %v", task, got, state, want)
			}
			if state != want && c.store.Read().Version() != before {
				c.Errorf("a report of %v, which is not taken, was written", state)
			}
		}
		report("t", api.TaskState_NEW, api.TaskState_ASSIGNED)
		report("t", api.TaskState_RUNNING, api.TaskState_RUNNING)
		report("t", api.TaskState_PREPARING, api.TaskState_RUNNING)
		report("t", api.TaskState_ORPHANED, api.TaskState_RUNNING)
		report("t", api.TaskState_REMOVE, api.TaskState_RUNNING)
		report("t", 9999, api.TaskState_RUNNING)
		report("t", -1, api.TaskState_RUNNING)
		report("early", api.TaskState_RUNNING, api.TaskState_PENDING)
		report("t", api.TaskState_FAILED, api.TaskState_FAILED)
		before := c.store.Read().Version()
		report("t", api.TaskState_FAILED, api.TaskState_FAILED)
		if c.store.Read().Version() != before {
			c.Error("a status that was known already was written")
		}
	})
}

func TestAnEndlessErrorOfATaskIsCutShort(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		c.create(task("t", "n1"))
		failed := update("t", api.TaskState_FAILED)
		failed.Status.Err = strings.Repeat("é", 1<<20)
		failed.Status.Timestamp = &timestamppb.Timestamp{Seconds: 1 << 60}
		codeOf(c.T, n.report(id, failed), codes.OK)
		if got := c.task("t").GetStatus(); len(got.GetErr()) > 5000 || got.GetTimestamp() != nil {
			c.Errorf("an error of %d bytes was kept, and the time %v", len(got.GetErr()), got.GetTimestamp())
		}
	})
}

func TestAReportThatIsTooLargeForOneEntryIsSplit(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		var updates []*api.UpdateTaskStatusRequest_TaskStatusUpdate
		for i := range 20 {
			large := task(fmt.Sprint("t", i), "n1")
			large.Spec.GetContainer().Env = []string{strings.Repeat("x", 100<<10)}
			c.create(large)
			updates = append(updates, update(large.GetId(), api.TaskState_RUNNING))
		}
		codeOf(c.T, n.report(id, updates...), codes.OK)
		for i := range 20 {
			if got := c.task(fmt.Sprint("t", i)).GetStatus().GetState(); got != api.TaskState_RUNNING {
				c.Fatalf("t%d is %v", i, got)
			}
		}
	})
}

func TestVolumesThatANodeLetGoOfAreUnpublished(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		id := n.register()
		c.create(&api.Volume{Id: "v", Spec: &api.VolumeSpec{Annotations: &api.Annotations{Name: "v"}}, PublishStatus: []*api.VolumePublishStatus{
			{NodeId: "n1", State: api.VolumePublishStatus_PENDING_NODE_UNPUBLISH},
			{NodeId: "n3", State: api.VolumePublishStatus_PUBLISHED},
		}})
		_, err := n.UpdateVolumeStatus(c.Context(), &api.UpdateVolumeStatusRequest{SessionId: id, Updates: []*api.UpdateVolumeStatusRequest_VolumeStatusUpdate{
			{Id: "no such volume", Unpublished: true}, nil, {Id: "v", Unpublished: true},
		}})
		codeOf(c.T, err, codes.OK)
		volume, _ := c.store.Read().Volumes.Get("v")
		if got := volume.GetPublishStatus(); got[0].GetState() != api.VolumePublishStatus_PENDING_UNPUBLISH || got[1].GetState() != api.VolumePublishStatus_PUBLISHED {
			c.Errorf("got %v", got)
		}
		other := c.client("n2")
		defer other.stop()
		_, err = other.UpdateVolumeStatus(c.Context(), &api.UpdateVolumeStatusRequest{SessionId: other.register(), Updates: []*api.UpdateVolumeStatusRequest_VolumeStatusUpdate{{Id: "v", Unpublished: true}}})
		codeOf(c.T, err, codes.PermissionDenied)
		if now, _ := c.store.Read().Volumes.Get("v"); now != volume {
			c.Errorf("a node that does not have the volume changed it to %v", now.GetPublishStatus())
		}
	})
}

func TestWhoOpensAssignmentsAgainAndAgainLosesItsSession(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		message, session, err := n.session("")
		if err != nil {
			c.Fatal(err)
		}
		opens := 0
		for ; err == nil && opens < 100; opens++ {
			var stream grpc.ServerStreamingClient[api.AssignmentsMessage]
			if stream, err = n.Assignments(c.Context(), &api.AssignmentsRequest{SessionId: message.GetSessionId()}); err == nil {
				_, err = stream.Recv()
			}
		}
		codeOf(c.T, err, codes.Aborted)
		if opens > 20 {
			c.Errorf("%d streams were opened", opens)
		}
		_, err = session.Recv()
		codeOf(c.T, err, codes.Aborted)
	})
}

func TestAStreamThatNobodyReadsIsBroughtUpToDateWithoutAGap(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		stream, err := n.Assignments(c.Context(), &api.AssignmentsRequest{SessionId: n.register()})
		if err != nil {
			c.Fatal(err)
		}
		c.create(task("gone", "n1"))
		synctest.Wait()
		for i := range 30 { // more changes than may wait
			if err := c.store.Update(c.Context(), func(tx *store.Tx) error {
				for j := range 100 {
					if err := tx.Create(task(fmt.Sprint("t", 100*i+j), "n1")); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				c.Fatal(err)
			}
		}
		c.remove(store.KindTask, "gone")
		has, last, messages := map[string]bool{}, "", 0
		for ; len(has) != 3000 || has["gone"]; messages++ {
			message, err := stream.Recv()
			if err != nil {
				c.Fatal(err)
			}
			if message.GetAppliesTo() != last {
				c.Fatalf("a gap from %q to %q", last, message.GetAppliesTo())
			}
			last = message.GetResultsIn()
			for _, change := range message.GetChanges() {
				if change.GetAction() == api.AssignmentChange_REMOVE {
					delete(has, change.GetAssignment().GetTask().GetId())
				} else {
					has[change.GetAssignment().GetTask().GetId()] = true
				}
			}
		}
		if messages > 10 {
			c.Errorf("3000 changes came in %d messages", messages)
		}
	})
}

func TestWorkersFromBeforeAssignmentsGetTheListOfTasks(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		c.create(task("t1", "n1"), task("t2", "n2"))
		id := n.register()
		stream, err := n.Tasks(c.Context(), &api.TasksRequest{SessionId: id})
		if err != nil {
			c.Fatal(err)
		}
		next := func(want int) {
			c.Helper()
			message, err := stream.Recv()
			if err != nil || len(message.GetTasks()) != want {
				c.Fatalf("got %v, %v, want %d tasks", message, err, want)
			}
		}
		next(1)
		c.create(task("t3", "n1"))
		next(2)
		codeOf(c.T, n.report(id, update("t1", api.TaskState_RUNNING)), codes.OK) // no news to a worker
		c.remove(store.KindTask, "t1")
		next(1)
	})
}

func TestStreamsOfASessionEndWithIt(t *testing.T) {
	inBubble(t, func(c *cluster) {
		n := c.client("n1")
		defer n.stop()
		message, session, err := n.session("")
		if err != nil {
			c.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
		defer cancel()
		assignments, err := n.Assignments(ctx, &api.AssignmentsRequest{SessionId: message.GetSessionId()})
		if err != nil {
			c.Fatal(err)
		}
		if _, err := assignments.Recv(); err != nil {
			c.Fatal(err)
		}
		c.stop()
		_, err = session.Recv()
		codeOf(c.T, err, codes.Aborted)
		if !strings.Contains(status.Convert(err).Message(), "node must disconnect") {
			c.Errorf("the session ended with %v", err)
		}
		_, err = assignments.Recv()
		codeOf(c.T, err, codes.Aborted)
	})
}
