package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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
		Addr: first(md, metaAddr), Forwarder: direct.NodeID,
	}
}

// passedOn reports whether a request says that a manager passed it on, whoever says so.
func passedOn(md metadata.MD) bool {
	return len(md.Get(metaRedirect)) > 0 || len(md.Get(metaForwarded)) > 0
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

// open begins a call of a method at the leader. Where it fails nothing was sent: it is tried
// again, with the next leader if there is another, until the request's time is over.
func (s *server) open(ctx context.Context, f *forward, m *method) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{StreamName: m.name, ServerStreams: m.serverStreams, ClientStreams: m.clientStreams}
	for {
		conn, err := s.cfg.Leadership.Connect(f.leader)
		if err == nil {
			var stream grpc.ClientStream
			if stream, err = conn.NewStream(s.outgoing(ctx, f.caller), desc, m.full); err == nil {
				return stream, nil
			}
		}
		if status.Code(err) != codes.Unavailable && status.Code(err) != codes.Unknown || !s.again(ctx, f) {
			return nil, s.unreached(f, err)
		}
	}
}

// again waits for another try, and says whether there is one. After it the leader may be this
// manager: then the caller is told to try again, which is a matter of milliseconds.
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
	if err != nil || leader.Self {
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

// forwardUnary has the leader answer a request.
func (s *server) forwardUnary(ctx context.Context, f *forward, m *method, req any) (any, error) {
	for {
		stream, err := s.open(ctx, f, m)
		if err != nil {
			return nil, err
		}
		resp := m.output.New().Interface()
		if err = stream.SendMsg(req); err == nil || errors.Is(err, io.EOF) {
			if err = stream.CloseSend(); err == nil {
				err = stream.RecvMsg(resp)
			}
		}
		switch {
		case err == nil:
			header, _ := stream.Header() // it came with the answer
			_ = grpc.SetHeader(ctx, header)
			_ = grpc.SetTrailer(ctx, stream.Trailer())
			return resp, nil
		case nothingDone(err) && s.again(ctx, f):
			continue
		case brokeOff(err) && m.writes():
			return nil, model.Errorf(model.Unknown, "outcome unknown: the connection to the leader at %s broke off after the request was sent; read and try again", f.leader.Addr)
		}
		return nil, s.ended(f, err)
	}
}

// nothingDone reports whether an answer says that nothing was done and another try may go
// better: it advises one, or comes from a manager that does not lead.
func nothingDone(err error) bool {
	st := status.Convert(err)
	if st.Code() == codes.ResourceExhausted && strings.Contains(st.Message(), loopText) {
		return true
	}
	return st.Code() == codes.Unavailable && advised(st)
}

func advised(st *status.Status) bool {
	for _, detail := range st.Details() {
		if _, ok := detail.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

// brokeOff reports whether the connection and not the leader answered.
func brokeOff(err error) bool {
	st := status.Convert(err)
	return st.Code() == codes.Unavailable && !advised(st)
}

// writes reports whether it matters if a request of m was carried out without an answer.
func (m *method) writes() bool {
	return m.service == api.Control_ServiceDesc.ServiceName || m.service == api.RaftMembership_ServiceDesc.ServiceName ||
		m.service == api.ResourceAllocator_ServiceDesc.ServiceName
}

// forwardStream has the leader serve a stream. It ends with the caller's, or with the leader's.
func (s *server) forwardStream(ss grpc.ServerStream, f *forward, m *method) error {
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	var request proto.Message
	if !m.clientStreams {
		request = m.input.New().Interface()
		if err := ss.RecvMsg(request); err != nil {
			return err
		}
	}
	stream, err := s.open(ctx, f, m)
	if err != nil {
		return err
	}
	if m.clientStreams {
		// It ends when the caller has nothing more to say, or with the handler.
		go s.passOn(ss, stream, m, cancel)
	} else if err := send(stream, request); err != nil {
		return s.ended(f, err)
	}
	header, err := stream.Header()
	if err == nil && len(header) > 0 {
		err = ss.SendHeader(header) // the leader may say nothing else for long
	}
	if err != nil {
		return s.ended(f, err)
	}
	for {
		resp := m.output.New().Interface()
		if err := stream.RecvMsg(resp); err != nil {
			ss.SetTrailer(stream.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return s.ended(f, err)
		}
		if err := ss.SendMsg(resp); err != nil {
			return err
		}
		if !m.serverStreams {
			ss.SetTrailer(stream.Trailer())
			return nil
		}
	}
}

func send(stream grpc.ClientStream, request proto.Message) error {
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return stream.CloseSend()
}

// passOn hands the leader what a caller says.
func (s *server) passOn(ss grpc.ServerStream, stream grpc.ClientStream, m *method, cancel context.CancelFunc) {
	for {
		request := m.input.New().Interface()
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
	if status.Code(err) == codes.ResourceExhausted && nothingDone(err) {
		return model.Errorf(model.Unavailable, "manager %s at %s does not lead any more: nothing was done; try again", f.leader.NodeID, f.leader.Addr)
	}
	if brokeOff(err) {
		return model.Errorf(model.Unavailable, "the leader at %s went away: try again", f.leader.Addr)
	}
	return err
}
