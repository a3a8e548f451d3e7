package inproc

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Conn is a connection. Register services on it, then use it as a client.
type Conn struct {
	// Admit prepares the context of each handler, for instance with the caller. Nil
	// leaves it as it is.
	Admit func(context.Context) context.Context
	// Status turns a handler's error into what the client gets. Nil leaves it as it is.
	Status func(error) error

	mu      sync.Mutex
	methods map[string]method
	open    map[*stream]bool
	closed  bool
	calls   sync.WaitGroup
}

var (
	_ grpc.ClientConnInterface = (*Conn)(nil)
	_ grpc.ServiceRegistrar    = (*Conn)(nil)
)

// method is one of the two.
type method struct {
	service any
	unary   *grpc.MethodDesc
	stream  *grpc.StreamDesc
}

var errClosed = status.Error(codes.Unavailable, "the connection is closed")

// RegisterService adds a service, as grpc.Server does.
func (c *Conn) RegisterService(desc *grpc.ServiceDesc, service any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.methods == nil {
		c.methods = make(map[string]method)
	}
	for i := range desc.Methods {
		c.methods["/"+desc.ServiceName+"/"+desc.Methods[i].MethodName] = method{service: service, unary: &desc.Methods[i]}
	}
	for i := range desc.Streams {
		c.methods["/"+desc.ServiceName+"/"+desc.Streams[i].StreamName] = method{service: service, stream: &desc.Streams[i]}
	}
}

// Close ends all calls with Unavailable, and returns when their handlers have.
func (c *Conn) Close() {
	c.mu.Lock()
	c.closed = true
	for s := range c.open {
		s.cancel(errClosed)
	}
	c.mu.Unlock()
	c.calls.Wait()
}

// Invoke implements grpc.ClientConnInterface.
func (c *Conn) Invoke(ctx context.Context, name string, request, answer any, _ ...grpc.CallOption) error {
	s, m, err := c.begin(ctx, name)
	if err != nil {
		return err
	}
	if m.unary == nil {
		s.cancel(nil)
		c.end(s)
		return status.Errorf(codes.Internal, "%s is a stream", name)
	}
	data, err := proto.Marshal(request.(proto.Message))
	if err != nil {
		s.cancel(nil)
		c.end(s)
		return err
	}
	type outcome struct {
		answer any
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		defer c.end(s)
		answer, err := m.unary.Handler(m.service, s.ctx, func(v any) error {
			return proto.Unmarshal(data, v.(proto.Message))
		}, nil)
		done <- outcome{answer, err}
	}()
	select {
	case out := <-done:
		defer s.cancel(nil)
		if out.err != nil {
			return c.status(out.err)
		}
		data, err := proto.Marshal(out.answer.(proto.Message))
		if err != nil {
			return err
		}
		return proto.Unmarshal(data, answer.(proto.Message))
	case <-s.ctx.Done():
		return ended(s.ctx)
	}
}

// NewStream implements grpc.ClientConnInterface.
func (c *Conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, name string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	s, m, err := c.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	if m.stream == nil {
		s.cancel(nil)
		c.end(s)
		return nil, status.Errorf(codes.Internal, "%s is no stream", name)
	}
	s.up, s.down, s.sent, s.done = make(chan []byte, 1), make(chan []byte, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer c.end(s)
		defer close(s.done)
		s.err = m.stream.Handler(m.service, serverEnd{s})
		if s.err != nil {
			s.err = c.status(s.err)
		}
	}()
	return clientEnd{s}, nil
}

func (c *Conn) begin(ctx context.Context, name string) (*stream, method, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.methods[name]
	switch {
	case c.closed:
		return nil, m, errClosed
	case !ok:
		return nil, m, status.Errorf(codes.Unimplemented, "unknown method %s", name)
	case ctx.Err() != nil:
		return nil, m, ended(ctx)
	}
	s := &stream{}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if c.Admit != nil {
		s.ctx = c.Admit(s.ctx)
	}
	if c.open == nil {
		c.open = make(map[*stream]bool)
	}
	c.open[s] = true
	c.calls.Add(1)
	return s, m, nil
}

func (c *Conn) end(s *stream) {
	c.mu.Lock()
	delete(c.open, s)
	c.mu.Unlock()
	c.calls.Done()
}

func (c *Conn) status(err error) error {
	if c.Status != nil {
		return c.Status(err)
	}
	return err
}

// ended is what a client gets when its context is over.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if _, ok := status.FromError(cause); ok {
		return cause
	}
	return status.FromContextError(ctx.Err()).Err()
}

// stream is one call, seen from both ends.
type stream struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	up, down chan []byte
	sent     chan struct{} // closed when the client has sent all
	done     chan struct{} // closed when the handler has returned err
	err      error
}

func (s *stream) send(to chan<- []byte, m any) error {
	data, err := proto.Marshal(m.(proto.Message))
	if err != nil {
		return err
	}
	select {
	case to <- data:
		return nil
	case <-s.done:
		return io.EOF
	case <-s.ctx.Done():
		return ended(s.ctx)
	}
}

type clientEnd struct{ *stream }

func (e clientEnd) Header() (metadata.MD, error) { return nil, nil }
func (e clientEnd) Trailer() metadata.MD         { return nil }
func (e clientEnd) Context() context.Context     { return e.ctx }
func (e clientEnd) SendMsg(m any) error          { return e.send(e.up, m) }

func (e clientEnd) CloseSend() error {
	close(e.sent)
	return nil
}

func (e clientEnd) RecvMsg(m any) error {
	select {
	case data := <-e.down:
		return proto.Unmarshal(data, m.(proto.Message))
	case <-e.ctx.Done():
		return ended(e.ctx)
	case <-e.done:
	}
	select { // what was sent before the end comes first
	case data := <-e.down:
		return proto.Unmarshal(data, m.(proto.Message))
	default:
	}
	e.cancel(nil)
	if e.err == nil {
		return io.EOF
	}
	return e.err
}

type serverEnd struct{ *stream }

func (e serverEnd) SetHeader(metadata.MD) error  { return nil }
func (e serverEnd) SendHeader(metadata.MD) error { return nil }
func (e serverEnd) SetTrailer(metadata.MD)       {}
func (e serverEnd) Context() context.Context     { return e.ctx }
func (e serverEnd) SendMsg(m any) error          { return e.send(e.down, m) }

func (e serverEnd) RecvMsg(m any) error {
	select {
	case data := <-e.up:
		return proto.Unmarshal(data, m.(proto.Message))
	case <-e.ctx.Done():
		return ended(e.ctx)
	case <-e.sent:
	}
	select {
	case data := <-e.up:
		return proto.Unmarshal(data, m.(proto.Message))
	default:
		return io.EOF
	}
}
