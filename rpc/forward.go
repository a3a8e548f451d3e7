package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/model"
)

// What a manager that passes a request on says of it, by the names of the contract. A caller
// without a certificate is forwarded with empty fields, so that nobody takes it for the
// manager; a request of the manager's own socket without any but metaRedirect.
const (
	metaRedirect  = "redirect" // the address of the manager that passes it on
	metaForwarded = "forwarded_cert"
	metaNode      = "forwarded_cert_cn"
	metaOrg       = "forwarded_cert_org"
	metaRole      = "forwarded_cert_ou"
	metaAddr      = "remote_addr"
)

// retryPause is how long a request waits before it is passed on again to the same leader.
const retryPause = 50 * time.Millisecond

// forwarded returns who a manager says that it asks for, and whether it says so. It is to be
// asked only when the caller is a manager.
func forwarded(md metadata.MD, direct Identity) Identity {
	if first(md, metaForwarded) != "true" {
		return direct
	}
	return Identity{
		NodeID: first(md, metaNode), Org: first(md, metaOrg), Roles: md.Get(metaRole),
		Addr: first(md, metaAddr), Forwarder: direct.NodeID, byManager: direct.byManager,
	}
}

// passedOn reports whether a request says that a manager passed it on, whoever says so.
func passedOn(md metadata.MD) bool {
	return len(md.Get(metaRedirect)) > 0 || len(md.Get(metaForwarded)) > 0
}

// speaksForOthers reports whether a request says who makes it, beside the certificate.
func speaksForOthers(md metadata.MD) bool {
	return len(md.Get(metaForwarded))+len(md.Get(metaNode))+len(md.Get(metaOrg))+len(md.Get(metaRole)) > 0
}

func first(md metadata.MD, key string) string {
	if values := md.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// outgoing returns the context in which a request of id is passed on.
func (s *server) outgoing(ctx context.Context, id Identity) context.Context {
	md := metadata.MD{}
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		if version := in.Get(ca.VersionMetadata); len(version) > 0 {
			md.Set(ca.VersionMetadata, version...)
		}
	}
	md.Set(metaRedirect, s.cfg.Addr)
	md.Set(metaAddr, id.Addr)
	if !id.Local {
		md.Set(metaForwarded, "true")
		md.Set(metaNode, id.NodeID)
		md.Set(metaOrg, id.Org)
		md.Set(metaRole, id.Roles...)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// errHere says that this manager came to lead before the request was passed on, or after an
// answer that nothing was done: then it is served here.
var errHere = errors.New("this manager leads now")

// errReplaced ends a call whose leader leads no more.
var errReplaced = errors.New("another manager leads now")

// passed is a call of the leader. Who opened it ends it.
type passed struct {
	grpc.ClientStream
	ctx     context.Context
	cancel  context.CancelCauseFunc
	state   atomic.Int32
	watcher sync.WaitGroup
}

// The states of a call: what happens first ends the opening.
const (
	opening int32 = iota
	opened
	replaced
)

func newPassed(ctx context.Context) *passed {
	p := &passed{}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	return p
}

// end ends the call and what belongs to it.
func (p *passed) end() {
	p.cancel(nil)
	p.watcher.Wait()
}

// watch ends a call of leader when another manager leads: while it is opened at once, later
// after that much time. A connection to a machine that is gone may say so much later, or
// never.
func (s *server) watch(p *passed, leader LeaderInfo, after time.Duration) {
	for {
		now, changed := s.cfg.Leadership.Leader()
		if now != leader && now != (LeaderInfo{}) {
			break
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return
		}
	}
	if !p.state.CompareAndSwap(opening, replaced) && after > 0 {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			return
		}
	}
	p.cancel(errReplaced)
}

// failed returns what became of a call that err ended.
func (p *passed) failed(err error) error {
	if err != nil && status.Code(err) == codes.Canceled && errors.Is(context.Cause(p.ctx), errReplaced) {
		return status.Error(codes.Unavailable, errReplaced.Error())
	}
	return err
}

// open begins a call of a method at the leader. Where it fails nothing was sent: it is tried
// again, with the next leader if there is another, until the request's time is over. The error
// is errHere when the next leader is this manager. The call ends that much later than the
// leadership of whom it was made of.
func (s *server) open(ctx context.Context, f *forward, m *method, after time.Duration) (*passed, error) {
	desc := &grpc.StreamDesc{StreamName: m.name, ServerStreams: m.serverStreams, ClientStreams: m.clientStreams}
	for {
		if f.leader.Self {
			return nil, errHere
		}
		conn, err := s.cfg.Leadership.Connect(f.leader)
		if err == nil {
			p := newPassed(s.outgoing(ctx, f.caller))
			p.watcher.Go(func() { s.watch(p, f.leader, after) })
			p.ClientStream, err = conn.NewStream(p.ctx, desc, m.full, grpc.ForceCodecV2(s.codec))
			if !p.state.CompareAndSwap(opening, opened) {
				err = status.Error(codes.Unavailable, errReplaced.Error())
			}
			if err == nil {
				return p, nil
			}
			p.end()
		}
		if status.Code(err) != codes.Unavailable && status.Code(err) != codes.Unknown || !s.again(ctx, f) {
			return nil, s.unreached(f, err)
		}
	}
}

// again waits for another try, and says whether there is one. After it the leader may be this
// manager.
func (s *server) again(ctx context.Context, f *forward) bool {
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-f.changed:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	if time.Now().After(f.until) {
		return false
	}
	leader, err := s.awaitLeader(ctx, f.until)
	if err != nil {
		return false
	}
	f.leader = leader
	_, f.changed = s.cfg.Leadership.Leader()
	return true
}

func (s *server) unreached(f *forward, err error) error {
	if code := status.Code(err); code == codes.Canceled || code == codes.DeadlineExceeded {
		return err
	}
	return model.Errorf(model.Unavailable, "the leader, manager %s at %s, cannot be reached from this one: nothing was done; try again: %s",
		f.leader.NodeID, f.leader.Addr, status.Convert(err).Message())
}

// forwardUnary has the leader answer a request. The error is errHere when this manager is to.
func (s *server) forwardUnary(ctx context.Context, f *forward, m *method, req any) (any, error) {
	for {
		resp := &frame{}
		err := s.ask(ctx, f, m, req, resp)
		switch {
		case err == nil:
			return resp, nil
		case errors.Is(err, errHere):
			return nil, err
		case nothingDone(err) && s.again(ctx, f):
			continue
		case brokeOff(err) && m.writes():
			return nil, model.Errorf(model.Unknown, "outcome unknown: the connection to the leader at %s broke off after the request was sent; read and try again", f.leader.Addr)
		}
		return nil, s.ended(f, err)
	}
}

// ask asks the leader once.
func (s *server) ask(ctx context.Context, f *forward, m *method, req, resp any) error {
	call, err := s.open(ctx, f, m, LeaderWait)
	if err != nil {
		return err
	}
	defer call.end()
	if err := send(call, req); err != nil {
		return call.failed(err)
	}
	if err := call.RecvMsg(resp); err != nil {
		return call.failed(err)
	}
	header, _ := call.Header() // it came with the answer
	_ = grpc.SetHeader(ctx, header)
	_ = grpc.SetTrailer(ctx, call.Trailer())
	return nil
}

// nothingDone reports whether an answer says that nothing was done and another try may go
// better: it advises one, or comes from a manager that does not lead.
func nothingDone(err error) bool {
	if st := status.Convert(err); st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), loopText) {
		return true
	}
	_, advised := model.Advised(err)
	return advised
}

// brokeOff reports whether the connection and not the leader answered.
func brokeOff(err error) bool {
	_, advised := model.Advised(err)
	return status.Code(err) == codes.Unavailable && !advised
}

// writes reports whether it matters if a request of m was carried out without an answer.
func (m *method) writes() bool {
	return m.service == api.Control_ServiceDesc.ServiceName || m.service == api.RaftMembership_ServiceDesc.ServiceName ||
		m.service == api.ResourceAllocator_ServiceDesc.ServiceName
}

// forwardStream has the leader serve a stream. It ends with the caller's, or with the leader's.
// The error is errHere when this manager is to serve it: what was read of it so far is in f.
func (s *server) forwardStream(ss grpc.ServerStream, f *forward, m *method) error {
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	if !m.clientStreams {
		f.read = &frame{}
		if err := ss.RecvMsg(f.read); err != nil {
			return err
		}
	}
	for {
		call, err := s.open(ctx, f, m, 0)
		if err != nil {
			return err
		}
		told, err := s.relay(ss, f, m, call, cancel)
		call.end()
		if !told && f.read != nil && nothingDone(err) && s.again(ctx, f) {
			continue
		}
		return s.ended(f, err)
	}
}

// relay serves a stream through a call of the leader, and says whether the caller was told
// anything.
func (s *server) relay(ss grpc.ServerStream, f *forward, m *method, call *passed, cancel context.CancelFunc) (told bool, _ error) {
	if f.read == nil {
		// It ends when the caller has nothing more to say, or with the handler.
		go passOn(ss, call, cancel)
	} else if err := send(call, f.read); err != nil {
		return false, call.failed(err)
	}
	header, err := call.Header()
	if err == nil && len(header) > 0 {
		told = true
		err = ss.SendHeader(header) // the leader may say nothing else for long
	}
	if err != nil {
		return told, call.failed(err)
	}
	for {
		resp := &frame{}
		if err := call.RecvMsg(resp); err != nil {
			ss.SetTrailer(call.Trailer())
			if errors.Is(err, io.EOF) {
				return true, nil
			}
			return told, call.failed(err)
		}
		told = true
		if err := ss.SendMsg(resp); err != nil {
			return true, err
		}
		if !m.serverStreams {
			ss.SetTrailer(call.Trailer())
			return true, nil
		}
	}
}

// send says all that a caller who says one thing has to say. What else may come of it, the
// answer tells.
func send(stream grpc.ClientStream, request any) error {
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return stream.CloseSend()
}

// replay gives a stream back what was read of it.
func (s *server) replay(f *forward, ss grpc.ServerStream) grpc.ServerStream {
	if f.read == nil {
		return ss
	}
	return &replayed{ServerStream: ss, codec: s.codec, read: f.read}
}

// replayed is a stream whose first message was read before.
type replayed struct {
	grpc.ServerStream
	codec frames
	read  *frame
}

func (r *replayed) RecvMsg(m any) error {
	if r.read == nil {
		return r.ServerStream.RecvMsg(m)
	}
	read := mem.BufferSlice{mem.SliceBuffer(r.read.data)}
	r.read = nil
	if err := r.codec.Unmarshal(read, m); err != nil {
		return status.Errorf(codes.Internal, "read a message: %v", err)
	}
	return nil
}

// passOn hands the leader what a caller says.
func passOn(ss grpc.ServerStream, stream grpc.ClientStream, cancel context.CancelFunc) {
	for {
		request := &frame{}
		err := ss.RecvMsg(request)
		switch {
		case errors.Is(err, io.EOF):
			_ = stream.CloseSend() // the leader's answer tells
			return
		case err != nil:
			cancel()
			return
		}
		if stream.SendMsg(request) != nil {
			return // the leader's answer tells why
		}
	}
}

// ended says what became of a request whose leader went away, or is none any more.
func (s *server) ended(f *forward, err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) == codes.ResourceExhausted && nothingDone(err) {
		return model.Errorf(model.Unavailable, "manager %s at %s does not lead any more: nothing was done; try again", f.leader.NodeID, f.leader.Addr)
	}
	if brokeOff(err) {
		return model.Errorf(model.Unavailable, "the leader at %s went away: try again", f.leader.Addr)
	}
	return err
}
