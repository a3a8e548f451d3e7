package rpc

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"

	"skep/api"
	"skep/model"
)

// recoverUnary keeps a panic of a handler to its own request.
func (s *server) recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer s.recover(info.FullMethod, &err)
	return next(ctx, req)
}

func (s *server) recoverStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer s.recover(info.FullMethod, &err)
	return next(srv, ss)
}

func (s *server) recover(fullMethod string, err *error) {
	if p := recover(); p != nil {
		s.cfg.Log.Error("a request panicked", slog.String("rpc.method", fullMethod), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		s.cfg.Metrics.panicked(fullMethod)
		*err = statusOf(model.Errorf(model.Internal, "%s failed inside the manager: its log says more: please report it", fullMethod))
	}
}

// admitUnary identifies, authorizes and routes, then calls the handler.
func (s *server) admitUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if m := s.methods[info.FullMethod]; m != nil && m.route != Local && s.cfg.Gate != nil {
		if err := s.cfg.Gate.enter(); err != nil {
			return nil, err
		}
		defer s.cfg.Gate.leave()
	}
	ctx, elsewhere, err := s.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if elsewhere != nil {
		resp, err := s.forwardUnary(ctx, elsewhere, s.methods[info.FullMethod], req)
		if !errors.Is(err, errHere) {
			return resp, err
		}
		if ctx, err = s.here(ctx, info.FullMethod); err != nil {
			return nil, err
		}
	}
	return next(ctx, req)
}

func (s *server) admitStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, elsewhere, err := s.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if elsewhere != nil {
		// The leader is the first to know who may still. Whoever connected here ends with its certificate.
		stream := &callerStream{ServerStream: ss, ctx: ctx, stays: func() error { return nil }}
		err := s.forwardStream(stream, elsewhere, s.methods[info.FullMethod])
		if !errors.Is(err, errHere) {
			return err
		}
		if ctx, err = s.here(ctx, info.FullMethod); err != nil {
			return err
		}
		ss = s.replay(elsewhere, ss)
	}
	id := Caller(ctx)
	stays := func() error { return s.stays(ss.Context(), id, info.FullMethod) }
	return s.living(ctx, stays, func() error {
		return next(srv, &callerStream{ServerStream: ss, ctx: ctx, stays: stays})
	})
}

// stays returns nil while the caller of a stream may still call its method, as who it
// was when it began.
func (s *server) stays(ctx context.Context, began Identity, fullMethod string) error {
	m := s.methods[fullMethod]
	if m == nil {
		return nil
	}
	id, err := s.identify(ctx)
	if err != nil {
		return err
	}
	if id.Forwarder != began.Forwarder {
		return model.Errorf(model.Denied, "node %s, which passes on what node %s asks, is no manager any more: ask another manager", began.Forwarder, began.NodeID)
	}
	_, err = s.authorize(id, m)
	return err
}

// forward is a request that another manager answers.
type forward struct {
	caller  Identity
	leader  LeaderInfo
	changed <-chan struct{}
	// until is when the request has waited for a leader long enough.
	until time.Time
	// read is what was read of a stream on which the caller says one thing.
	read *frame
}

// here returns the context of a request that was to be passed on and is served by this
// manager after all: it leads now, and so it is the one who judges.
func (s *server) here(ctx context.Context, fullMethod string) (context.Context, error) {
	id, err := s.authorize(Caller(ctx), s.methods[fullMethod])
	if err != nil {
		return nil, err
	}
	return WithCaller(ctx, id), nil
}

// admit returns the context of a request that may be made, and where it is answered, nil for
// here.
func (s *server) admit(ctx context.Context, fullMethod string) (context.Context, *forward, error) {
	id, err := s.identify(ctx)
	if err != nil {
		return nil, nil, err
	}
	m := s.methods[fullMethod]
	if m == nil { // not registered: the handler of unknown methods answers
		return WithCaller(ctx, id), nil, nil
	}
	if m.route == Leader && s.cfg.Leadership != nil {
		// The leader judges: it is the first to know who may.
		if err := s.presentable(id, m); err != nil {
			return nil, nil, err
		}
		elsewhere, err := s.toLeader(ctx, id)
		if elsewhere != nil || err != nil {
			return WithCaller(ctx, id), elsewhere, err
		}
	}
	if id, err = s.authorize(id, m); err != nil {
		return nil, nil, err
	}
	if m.route == Read {
		if err := s.read(ctx, m); err != nil {
			return nil, nil, err
		}
		// The store is as new as the answer now, and knows who has lost its rights.
		if id, err = s.authorize(id, m); err != nil {
			return nil, nil, err
		}
	}
	return WithCaller(ctx, id), nil, nil
}

// callerStream is a stream whose context knows the caller, and on which a caller that
// has lost its rights is told nothing more: streams last for months.
type callerStream struct {
	grpc.ServerStream
	ctx   context.Context
	stays func() error
}

func (s *callerStream) SendMsg(m any) error {
	if err := s.stays(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

func (s *callerStream) Context() context.Context { return s.ctx }

func (s *server) unknown(_ any, stream grpc.ServerStream) error {
	fullMethod, _ := grpc.MethodFromServerStream(stream)
	if s.cfg.Unknown != nil {
		return s.cfg.Unknown(fullMethod)
	}
	return model.Errorf(model.Unimplemented, "%s is not served here", fullMethod)
}

// nobody is the authorizer of a server that has none: no node is known.
type nobody struct{}

func (nobody) ClusterID() string                      { return "" }
func (nobody) Node(string) (api.NodeRole, bool, bool) { return api.NodeRole_WORKER, false, true }
