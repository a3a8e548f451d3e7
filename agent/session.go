package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

const (
	// maxAssignments is the largest message of assignments taken: a manager goes
	// beyond 4 MiB only for a node whose running tasks alone are more.
	maxAssignments = 64 << 20
	// leastPeriod guards against a manager that names no period.
	leastPeriod = 50 * time.Millisecond
	// maxGaps is how many gaps in the assignments of one session are mended by
	// opening the stream again.
	maxGaps = 3
)

// session is one registration with one manager. All its streams and calls end
// together.
type session struct {
	agent  *Agent
	client api.DispatcherClient
	broker api.LogBrokerClient
	id     string
}

// holdSession registers the node and returns what ended the session, and whether
// there was one.
func (a *Agent) holdSession(ctx context.Context, description *api.NodeDescription) (registered bool, err error) {
	conn, done, err := a.cfg.Connect(ctx)
	if err != nil {
		return false, fmt.Errorf("connect to a manager: %w", err)
	}
	defer func() { done(err) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group, ctx := errgroup.WithContext(ctx)

	s := &session{agent: a, client: api.NewDispatcherClient(conn), broker: api.NewLogBrokerClient(conn)}
	late := time.AfterFunc(rpcTimeout, func() { cancel(errors.New("no answer from the manager")) })
	defer late.Stop()
	messages, err := s.client.Session(ctx, &api.SessionRequest{Description: description, SessionId: a.sessionID})
	if err != nil {
		return false, fmt.Errorf("register: %w", cause(ctx, err))
	}
	first, err := messages.Recv()
	if err != nil {
		return false, fmt.Errorf("register: %w", cause(ctx, err))
	}
	late.Stop()
	s.id, a.sessionID = first.GetSessionId(), first.GetSessionId()
	if err := s.handle(ctx, first); err != nil {
		return true, err
	}
	a.worker.reportAll()

	group.Go(func() error { return s.listen(ctx, messages) })
	group.Go(func() error { return s.assignments(ctx) })
	group.Go(func() error { return s.report(ctx) })
	group.Go(func() error { return s.serveLogs(ctx) })
	// What ended one of the others is also what beat returns.
	err = s.beat(ctx, description)
	cancel(err)
	_ = group.Wait()
	return true, err
}

// cause returns why ctx ended, if it did, else err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// listen takes the messages of the session.
func (s *session) listen(ctx context.Context, messages grpc.ServerStreamingClient[api.SessionMessage]) error {
	for {
		message, err := messages.Recv()
		if err != nil {
			return fmt.Errorf("session: %w", err)
		}
		if err := s.handle(ctx, message); err != nil {
			return err
		}
	}
}

func (s *session) handle(ctx context.Context, message *api.SessionMessage) error {
	if err := s.agent.configure(ctx, message); err != nil {
		return err
	}
	s.agent.cfg.Notify(message)
	return nil
}

// beat keeps the session alive, and ends it when the node's description changes.
func (s *session) beat(ctx context.Context, description *api.NodeDescription) error {
	next, describe := time.NewTimer(0), time.NewTicker(describeEvery)
	defer next.Stop()
	defer describe.Stop()
	for {
		look := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-next.C:
			period, err := s.heartbeat(ctx)
			if err != nil {
				return fmt.Errorf("heartbeat: %w", err)
			}
			next.Reset(max(period, leastPeriod))
		case <-describe.C:
			look = true
		case <-s.agent.refresh:
			look = true
		}
		if !look {
			continue
		}
		is, err := s.agent.describe(ctx)
		switch {
		case err != nil:
			s.agent.cfg.Log.Warn("node cannot be described", "node.id", s.agent.cfg.NodeID, "error", err)
		case !proto.Equal(is, description):
			return descriptionChanged{is}
		}
	}
}

func (s *session) heartbeat(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	answer, err := s.client.Heartbeat(ctx, &api.HeartbeatRequest{SessionId: s.id})
	return answer.GetPeriod().AsDuration(), err
}

// assignments carries out what the managers assign.
func (s *session) assignments(ctx context.Context) error {
	for range maxGaps + 1 {
		err := s.follow(ctx)
		if status.Code(err) == codes.Unimplemented {
			err = s.followTasks(ctx)
		}
		if !errors.Is(err, errGap) {
			return fmt.Errorf("assignments: %w", err)
		}
		s.agent.cfg.Log.Warn("assignments have a gap", "node.id", s.agent.cfg.NodeID)
	}
	return errors.New("assignments: one gap after the other")
}

// errGap says that a message does not follow the one before it.
var errGap = errors.New("a message is missing")

// follow opens the stream of assignments, and takes from it until it ends. What
// it has seen is forgotten with it: the next stream begins with everything.
func (s *session) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of a stream that goes on after a gap
	stream, err := s.client.Assignments(ctx, &api.AssignmentsRequest{SessionId: s.id}, grpc.MaxCallRecvMsgSize(maxAssignments))
	if err != nil {
		return err
	}
	last := ""
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		complete := message.GetType() == api.AssignmentsMessage_COMPLETE
		if !complete && message.GetAppliesTo() != last {
			return errGap
		}
		if err := s.agent.worker.assign(ctx, assignment{complete, message.GetChanges()}); err != nil {
			return err
		}
		last = message.GetResultsIn()
	}
}

// followTasks is follow for managers from before assignments: each message lists
// all tasks, and there are no secrets.
func (s *session) followTasks(ctx context.Context) error {
	stream, err := s.client.Tasks(ctx, &api.TasksRequest{SessionId: s.id}, grpc.MaxCallRecvMsgSize(maxAssignments))
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		all := assignment{complete: true}
		for _, task := range message.GetTasks() {
			all.changes = append(all.changes, &api.AssignmentChange{Assignment: &api.Assignment{Item: &api.Assignment_Task{Task: task}}})
		}
		if err := s.agent.worker.assign(ctx, all); err != nil {
			return err
		}
	}
}

// report sends statuses: one call at a time, with all that gathered during the
// one before. What a call that fails may not have delivered is sent again by the
// next session.
func (s *session) report(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.agent.worker.outbox.ready:
		}
		updates := s.agent.worker.outbox.take()
		if len(updates) == 0 {
			continue
		}
		_, err := s.client.UpdateTaskStatus(ctx, &api.UpdateTaskStatusRequest{SessionId: s.id, Updates: updates})
		if err != nil && status.Code(err) != codes.NotFound {
			return fmt.Errorf("report statuses: %w", err)
		}
		s.agent.worker.outbox.sent()
	}
}

// serveLogs waits for those who want to read logs. A manager without a log
// broker is no reason to end the session.
func (s *session) serveLogs(ctx context.Context) error {
	stream, err := s.broker.ListenSubscriptions(ctx, &api.ListenSubscriptionsRequest{})
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) == codes.Unimplemented {
		return nil
	}
	return fmt.Errorf("log subscriptions: %w", err)
}
