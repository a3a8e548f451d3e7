package rpc

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// Metrics counts requests under the names that dashboards for gRPC servers know.
// A nil Metrics counts nothing.
type Metrics struct {
	started, handled, received, sent, panics *prometheus.CounterVec
	seconds                                  *prometheus.HistogramVec
}

// NewMetrics registers the series of gRPC servers. All servers of a process
// share one.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	m := &Metrics{
		started:  counter("grpc_server_started_total", "RPCs that a client began.", labels...),
		handled:  counter("grpc_server_handled_total", "RPCs that ended, by code.", append(labels[:3:3], "grpc_code")...),
		received: counter("grpc_server_msg_received_total", "Messages received from clients.", labels...),
		sent:     counter("grpc_server_msg_sent_total", "Messages sent to clients.", labels...),
		panics:   counter("skep_rpc_panics_total", "Requests that panicked.", "grpc_service", "grpc_method"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "grpc_server_handling_seconds", Help: "Time until an RPC ended.", Buckets: prometheus.DefBuckets,
		}, labels),
	}
	registry.MustRegister(m.seconds)
	return m
}

func (m *Metrics) panicked(fullMethod string) {
	if m == nil {
		return
	}
	service, name := splitMethod(fullMethod)
	m.panics.WithLabelValues(service, name).Inc()
}

// call is one request that is being observed.
type call struct {
	s                   *server
	kind, service, name string
	began               time.Time
}

func (s *server) begin(kind, fullMethod string) call {
	c := call{s: s, kind: kind, began: time.Now()}
	c.service, c.name = splitMethod(fullMethod)
	if s.methods[fullMethod] == nil { // a label must not be the client's choice
		c.service, c.name = "unknown", "unknown"
	}
	if m := s.cfg.Metrics; m != nil {
		m.started.WithLabelValues(c.kind, c.service, c.name).Inc()
	}
	return c
}

func (c *call) message(series func(*Metrics) *prometheus.CounterVec) {
	if m := c.s.cfg.Metrics; m != nil {
		series(m).WithLabelValues(c.kind, c.service, c.name).Inc()
	}
}

// end maps the error, counts and logs it.
func (c *call) end(ctx context.Context, err error) error {
	err = statusOf(err)
	if m := c.s.cfg.Metrics; m != nil {
		m.handled.WithLabelValues(c.kind, c.service, c.name, status.Code(err).String()).Inc()
		m.seconds.WithLabelValues(c.kind, c.service, c.name).Observe(time.Since(c.began).Seconds())
	}
	if err != nil && c.s.cfg.Log.Enabled(ctx, slog.LevelDebug) {
		id, _ := c.s.identify(ctx) // the caller's context is further inside
		c.s.cfg.Log.DebugContext(ctx, "a request was refused", slog.String("rpc.service", c.service), slog.String("rpc.method", c.name),
			slog.String("node.id", id.NodeID), slog.Duration("took", time.Since(c.began)), slog.Any("error", err))
	}
	return err
}

func received(m *Metrics) *prometheus.CounterVec { return m.received }
func sent(m *Metrics) *prometheus.CounterVec     { return m.sent }

func (s *server) observeUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := s.begin("unary", info.FullMethod)
	c.message(received)
	resp, err := next(ctx, req)
	if err == nil {
		c.message(sent)
	}
	return resp, c.end(ctx, err)
}

func (s *server) observeStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	kind := "bidi_stream"
	switch {
	case !info.IsClientStream:
		kind = "server_stream"
	case !info.IsServerStream:
		kind = "client_stream"
	}
	c := s.begin(kind, info.FullMethod)
	return c.end(ss.Context(), next(srv, &observedStream{ServerStream: ss, call: &c}))
}

// observedStream counts messages.
type observedStream struct {
	grpc.ServerStream
	call *call
}

func (s *observedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.call.message(sent)
	}
	return err
}

func (s *observedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.call.message(received)
	}
	return err
}
