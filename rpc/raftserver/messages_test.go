package raftserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/api/skep"
	"skep/internal/badinput"
	"skep/model"
	"skep/raft/transport"
	"skep/rpc"
)

// recorder is a raft member that notes what it is given. Its snapshots stay in memory.
type recorder struct {
	mu        sync.Mutex
	got       []*raftpb.Message
	reachable []uint64
	had       []*skep.Had
	told      []string // by whom, of how many, after how many messages
	met       []uint64
	partial   []byte
	whole     [][]byte
	aborted   int
}

func (r *recorder) ID() uint64 { return 1 }
func (r *recorder) Step(_ context.Context, m *raftpb.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
	return nil
}
func (r *recorder) Meet(id uint64, _ string)  { r.met = append(r.met, id) }
func (r *recorder) ReportReachable(id uint64) { r.reachable = append(r.reachable, id) }
func (r *recorder) Had() []*skep.Had          { return r.had }
func (r *recorder) Told(id uint64, had []*skep.Had) {
	r.told = append(r.told, fmt.Sprintf("%d %d %d", id, len(had), len(r.got)))
}
func (r *recorder) ReceiveSnapshot(*raftpb.Message, transport.Header) (Incoming, error) {
	return r, nil
}
func (r *recorder) Offset() uint64 { return uint64(len(r.partial)) }
func (r *recorder) Write(p []byte) (int, error) {
	r.partial = append(r.partial, p...)
	return len(p), nil
}
func (r *recorder) Commit(context.Context) error {
	r.whole, r.partial = append(r.whole, r.partial), nil
	return nil
}
func (r *recorder) Abort()       { r.partial = nil; r.aborted++ }
func (r *recorder) Close() error { return nil }

// serve is a server of member 1; 2 and 3 are members too, and 3 leads; 4 was one.
func serve() (*Raft, *recorder, *prometheus.Registry) {
	registry, member := prometheus.NewRegistry(), &recorder{}
	return &Raft{
		Member: member,
		Members: func() []*api.RaftMember {
			return []*api.RaftMember{{RaftId: 1, NodeId: "n1", Addr: "h1"}, {RaftId: 2, NodeId: "n2", Addr: "h2"}, {RaftId: 3, NodeId: "n3", Addr: "h3", Status: &api.RaftMemberStatus{Leader: true}}}
		},
		Removed: func() []uint64 { return []uint64{4} },
		Metrics: NewMetrics(registry),
	}, member, registry
}

func from(node string) context.Context {
	return rpc.WithCaller(context.Background(), rpc.Identity{NodeID: node})
}

func msg(t raftpb.MessageType, from, to uint64) *raftpb.Message {
	return &raftpb.Message{Type: t.Enum(), From: &from, To: &to, Term: new(uint64(1)), Index: new(uint64(5))}
}

// TestOnlyTheSenderItselfIsHeard is fault 48.
func TestOnlyTheSenderItselfIsHeard(t *testing.T) {
	t.Parallel()
	socket := rpc.WithCaller(context.Background(), rpc.Identity{NodeID: "n2", Local: true})
	proxied := metadata.NewIncomingContext(from("n2"), metadata.Pairs("forwarded_cert", "true"))
	tests := map[string]struct {
		ctx    context.Context
		m      *raftpb.Message
		taken  bool
		code   codes.Code
		reason string
	}{
		"a member":                               {from("n2"), msg(raftpb.MsgHeartbeat, 2, 1), true, codes.OK, ""},
		"a member's vote":                        {from("n2"), msg(raftpb.MsgVote, 2, 1), true, codes.OK, ""},
		"in another member's name":               {from("n2"), msg(raftpb.MsgApp, 3, 1), false, codes.PermissionDenied, mismatch},
		"in this member's own name":              {from("n2"), msg(raftpb.MsgApp, 1, 1), false, codes.PermissionDenied, mismatch},
		"a member under an id that nobody knows": {from("n2"), msg(raftpb.MsgApp, 9, 1), false, codes.PermissionDenied, mismatch},
		"in nobody's name":                       {from("n2"), msg(raftpb.MsgApp, 0, 1), false, codes.PermissionDenied, mismatch},
		"somebody new, as a member":              {from("n9"), msg(raftpb.MsgApp, 2, 1), false, codes.PermissionDenied, mismatch},
		"a leader that is new here":              {from("n9"), msg(raftpb.MsgApp, 9, 1), true, codes.OK, ""},
		"a candidate that is new here":           {from("n9"), msg(raftpb.MsgVote, 9, 1), false, codes.OK, unknown},
		"one that was removed":                   {from("n4"), msg(raftpb.MsgApp, 4, 1), false, codes.NotFound, removed},
		"in the name of one that was removed":    {from("n2"), msg(raftpb.MsgApp, 4, 1), false, codes.NotFound, removed},
		"without a certificate":                  {from(""), msg(raftpb.MsgApp, 2, 1), false, codes.PermissionDenied, forwarded},
		"over the socket":                        {socket, msg(raftpb.MsgApp, 2, 1), false, codes.PermissionDenied, forwarded},
		"forwarded":                              {proxied, msg(raftpb.MsgApp, 2, 1), false, codes.PermissionDenied, forwarded},
		"for another member":                     {from("n2"), msg(raftpb.MsgApp, 2, 3), false, codes.OK, misdirected},
		"a proposal":                             {from("n2"), msg(raftpb.MsgProp, 2, 1), false, codes.OK, unexpected},
		"what raft says to its storage":          {from("n2"), msg(raftpb.MsgStorageAppend, 2, 1), false, codes.OK, unexpected},
		"what raft says to itself":               {from("n2"), msg(raftpb.MsgHup, 2, 1), false, codes.OK, unexpected},
		"of a type that there is not":            {from("n2"), msg(99, 2, 1), false, codes.OK, unexpected},
		"nothing":                                {from("n2"), nil, false, codes.OK, ""},
		"an empty message":                       {from("n2"), &raftpb.Message{}, false, codes.OK, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ways := map[string]func(*Raft) error{
				"ProcessRaftMessage": func(s *Raft) error {
					_, err := s.ProcessRaftMessage(test.ctx, &api.ProcessRaftMessageRequest{Message: test.m})
					return err
				},
				"StreamRaftMessage": func(s *Raft) error {
					stream := &parts{ctx: test.ctx, in: []*api.StreamRaftMessageRequest{{Message: test.m}}}
					err := s.StreamRaftMessage(stream)
					if (err == nil) != stream.answered {
						t.Errorf("answered: %v, and the error is %v", stream.answered, err)
					}
					return err
				},
			}
			for way, send := range ways {
				s, member, registry := serve()
				err := send(s)
				if code := codeOf(err); code != test.code || (len(member.got) == 1) != test.taken {
					t.Errorf("%s: %v, %d messages taken", way, err, len(member.got))
				}
				if code := codeOf(err); code == codes.NotFound && err.Error() != transport.TextRemoved {
					t.Errorf("%s: the text is %q", way, err)
				}
				if test.reason != "" && counted(t, registry, test.reason) == 0 {
					t.Errorf("%s: not counted as %s", way, test.reason)
				}
			}
		})
	}
}

// codeOf is the code that rpc makes of an error.
func codeOf(err error) codes.Code {
	var known *model.Error
	switch {
	case err == nil:
		return codes.OK
	case errors.As(err, &known):
		return rpc.CodeOf(known.Kind)
	}
	return status.Code(err)
}

func counted(t *testing.T, registry *prometheus.Registry, reason string) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

func TestAStreamIsOfOneMemberAndEndsWhenItIsRemoved(t *testing.T) {
	t.Parallel()
	hello := &skep.MessagesRequest{Hello: &skep.Hello{From: 2, To: 1}}
	heartbeat := &skep.MessagesRequest{Messages: []*raftpb.Message{msg(raftpb.MsgHeartbeat, 2, 1)}, Ack: 7}
	tests := map[string]struct {
		caller string
		in     []*skep.MessagesRequest
		taken  int
		acks   []uint64
		code   codes.Code
	}{
		"messages, and an end":         {"n2", []*skep.MessagesRequest{hello, heartbeat, heartbeat}, 2, []uint64{0, 7, 7}, codes.OK},
		"no hello":                     {"n2", []*skep.MessagesRequest{heartbeat}, 0, nil, codes.InvalidArgument},
		"somebody else's hello":        {"n3", []*skep.MessagesRequest{hello}, 0, nil, codes.PermissionDenied},
		"a hello for another member":   {"n2", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 2, To: 3}}}, 0, nil, codes.FailedPrecondition},
		"another sender's message":     {"n2", []*skep.MessagesRequest{hello, {Messages: []*raftpb.Message{msg(raftpb.MsgReadIndex, 3, 1)}}, heartbeat}, 1, []uint64{0, 7}, codes.OK},
		"a removed member's message":   {"n2", []*skep.MessagesRequest{hello, {Messages: []*raftpb.Message{msg(raftpb.MsgApp, 4, 1)}}, heartbeat}, 1, []uint64{0, 7}, codes.OK},
		"a removed member's hello":     {"n4", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 4, To: 1}}}, 0, nil, codes.NotFound},
		"an empty batch that asks":     {"n2", []*skep.MessagesRequest{hello, {Ack: 3}}, 0, []uint64{0, 3}, codes.OK},
		"a snapshot without its state": {"n2", []*skep.MessagesRequest{hello, {Messages: []*raftpb.Message{msg(raftpb.MsgSnap, 2, 1)}}}, 0, []uint64{0}, codes.OK},
		"messages with the hello":      {"n2", []*skep.MessagesRequest{{Hello: hello.GetHello(), Messages: heartbeat.GetMessages()}}, 1, []uint64{0}, codes.OK},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, member, registry := serve()
			stream := &messages{ctx: from(test.caller), in: test.in}
			err := (&Replication{Raft: s}).Messages(stream)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if strings.HasSuffix(name, "'s message") && counted(t, registry, mismatch) != 1 {
				t.Error("what is not the sender's is not counted")
			}
			if codeOf(err) != test.code || len(member.got) != test.taken || !slices.Equal(stream.acks, test.acks) {
				t.Errorf("%v, %d messages, acks %v", err, len(member.got), stream.acks)
			}
		})
	}
	t.Run("removed on a stream that stands", func(t *testing.T) {
		t.Parallel()
		s, member, registry := serve()
		gone := false
		s.Removed = func() []uint64 {
			if gone {
				return []uint64{2}
			}
			return nil
		}
		stream := &messages{ctx: from("n2"), in: []*skep.MessagesRequest{hello, heartbeat, heartbeat}}
		stream.before = func(i int) { gone = i == 2 }
		err := (&Replication{Raft: s}).Messages(stream)
		if codeOf(err) != codes.NotFound || len(member.got) != 1 || counted(t, registry, removed) != 1 {
			t.Errorf("%v, %d messages", err, len(member.got))
		}
	})
}

func TestWhatAMemberKnowsOfOthersIsPassedOnBeforeItsMessagesAndAnswered(t *testing.T) {
	t.Parallel()
	heartbeat := msg(raftpb.MsgHeartbeat, 2, 1)
	known := []*skep.Had{{Member: 1, Term: 5, Index: 9}, {Member: 3, Term: 5, Index: 7}}
	tests := map[string]struct {
		caller string
		in     []*skep.MessagesRequest
		told   []string
		taken  int
	}{
		"with the hello":          {"n2", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 2, To: 1}, Had: known, Messages: []*raftpb.Message{heartbeat}}}, []string{"2 2 0"}, 1},
		"a release without it":    {"n2", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 2, To: 1}}, {Messages: []*raftpb.Message{heartbeat}}}, []string{"2 0 0"}, 1},
		"and later":               {"n2", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 2, To: 1}, Messages: []*raftpb.Message{heartbeat}}, {Had: known, Messages: []*raftpb.Message{heartbeat}}}, []string{"2 0 0", "2 2 1"}, 2},
		"empty and twice":         {"n2", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 2, To: 1}, Had: []*skep.Had{{}, {}, known[0], known[0]}}}, []string{"2 4 0"}, 0},
		"of somebody unknown":     {"n9", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 9, To: 1}, Had: known}}, []string{"9 2 0"}, 0},
		"in another's name":       {"n3", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 2, To: 1}, Had: known}}, nil, 0},
		"of one that was removed": {"n4", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 4, To: 1}, Had: known}}, nil, 0},
		"for another member":      {"n2", []*skep.MessagesRequest{{Hello: &skep.Hello{From: 2, To: 3}, Had: known}}, nil, 0},
		"without a hello":         {"n2", []*skep.MessagesRequest{{Had: known}}, nil, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, member, _ := serve()
			member.had = known[:1]
			stream := &messages{ctx: from(test.caller), in: test.in}
			_ = (&Replication{Raft: s}).Messages(stream)
			if !slices.Equal(member.told, test.told) || len(member.got) != test.taken {
				t.Errorf("told %q with %d messages, want %q with %d", member.told, len(member.got), test.told, test.taken)
			}
			if answered := len(stream.had) == 1 && stream.had[0].GetIndex() == 9; answered != (test.told != nil) {
				t.Errorf("answered %v", stream.had)
			}
		})
	}
}

func TestACandidateThatCannotBeReachedGetsNoVote(t *testing.T) {
	t.Parallel()
	for _, healthy := range []bool{true, false} {
		s, member, registry := serve()
		s.Healthy = func(_ context.Context, candidate *api.RaftMember) error {
			if candidate.GetAddr() != "h2" {
				t.Errorf("asked %v", candidate)
			}
			if healthy {
				return nil
			}
			return errors.New("refused")
		}
		_, err := s.ProcessRaftMessage(from("n2"), &api.ProcessRaftMessageRequest{Message: msg(raftpb.MsgVote, 2, 1)})
		if err != nil || (len(member.got) == 1) != healthy || (counted(t, registry, unreachable) == 1) == healthy {
			t.Errorf("healthy %v: %v, %d messages", healthy, err, len(member.got))
		}
	}
}

func snapshotPart(index uint64, data string) *raftpb.Message {
	m := msg(raftpb.MsgSnap, 2, 1)
	m.Snapshot = &raftpb.Snapshot{Data: []byte(data), Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: new(uint64(1))}}
	return m
}

func TestOnlyTheHashesOfMembersArePassedOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		caller string
		id     uint64
		want   []uint64
	}{
		"a member":              {"n2", 2, []uint64{512}},
		"somebody not known":    {"n9", 9, nil},
		"a node that is no one": {"", 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, _ := serve()
			var got []uint64
			s.Hashes = func(from, index uint64, _ []byte) {
				if from != test.id {
					t.Errorf("hashes of %x come from %x", test.id, from)
				}
				got = append(got, index)
			}
			stream := &messages{ctx: from(test.caller), in: []*skep.MessagesRequest{{
				Hello: &skep.Hello{From: test.id, To: 1}, Hashes: []*skep.StateHash{{Index: 512, Hash: []byte("h")}},
			}}}
			_ = (&Replication{Raft: s}).Messages(stream)
			if !slices.Equal(got, test.want) {
				t.Errorf("the hashes at %v are passed on, want those at %v", got, test.want)
			}
		})
	}
}

func TestASnapshotOfAStockManagerIsPutTogether(t *testing.T) {
	t.Parallel()
	other := msg(raftpb.MsgApp, 2, 1)
	tests := map[string]struct {
		in   []*raftpb.Message
		want string
		code codes.Code
	}{
		"parts":                     {[]*raftpb.Message{snapshotPart(9, "ab"), snapshotPart(9, "cd"), snapshotPart(9, "e")}, "abcde", codes.OK},
		"parts of two snapshots":    {[]*raftpb.Message{snapshotPart(9, "ab"), snapshotPart(8, "cd")}, "", codes.InvalidArgument},
		"a part of another type":    {[]*raftpb.Message{snapshotPart(9, "ab"), other}, "", codes.InvalidArgument},
		"a message twice":           {[]*raftpb.Message{other, other}, "", codes.InvalidArgument},
		"a part that is not there":  {[]*raftpb.Message{snapshotPart(9, "ab"), nil}, "", codes.InvalidArgument},
		"more than is taken":        {[]*raftpb.Message{snapshotPart(9, "abcd"), snapshotPart(9, "efgh")}, "", codes.ResourceExhausted},
		"nothing":                   {nil, "", codes.OK},
		"of another member's":       {[]*raftpb.Message{msg(raftpb.MsgSnap, 3, 1)}, "", codes.PermissionDenied},
		"a part without a snapshot": {[]*raftpb.Message{snapshotPart(9, "ab"), msg(raftpb.MsgSnap, 2, 1)}, "", codes.InvalidArgument},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, _ := serve()
			s.MaxSnapshot = 6
			got := ""
			s.Restore = func(_ context.Context, m *raftpb.Message) error {
				got = string(m.GetSnapshot().GetData())
				return nil
			}
			stream := &parts{ctx: from("n2")}
			for _, m := range test.in {
				stream.in = append(stream.in, &api.StreamRaftMessageRequest{Message: m})
			}
			if err := s.StreamRaftMessage(stream); codeOf(err) != test.code || got != test.want {
				t.Errorf("%v, %q", err, got)
			}
		})
	}
	t.Run("nobody takes them, of which the first part is enough", func(t *testing.T) {
		t.Parallel()
		s, _, _ := serve()
		stream := &parts{ctx: from("n2")}
		for range 3 {
			stream.in = append(stream.in, &api.StreamRaftMessageRequest{Message: snapshotPart(9, "ab")})
		}
		if err := s.StreamRaftMessage(stream); codeOf(err) != codes.Unimplemented || len(stream.in) != 2 {
			t.Errorf("%v, and %d of 3 parts are left; want 2", err, len(stream.in))
		}
	})
	t.Run("nobody takes them", func(t *testing.T) {
		t.Parallel()
		s, member, _ := serve()
		_, err := s.ProcessRaftMessage(from("n2"), &api.ProcessRaftMessageRequest{Message: snapshotPart(9, "x")})
		if codeOf(err) != codes.Unimplemented || len(member.got) > 0 {
			t.Errorf("%v, %d messages", err, len(member.got))
		}
	})
}

func header(from uint64) *skep.SnapshotRequest {
	m := snapshotPart(9, "")
	m.From = &from
	return &skep.SnapshotRequest{Part: &skep.SnapshotRequest_Header{Header: &skep.SnapshotHeader{Id: "s", Message: m}}}
}

func chunk(offset uint64, data string) *skep.SnapshotRequest {
	return &skep.SnapshotRequest{Part: &skep.SnapshotRequest_Chunk{Chunk: &skep.SnapshotChunk{Offset: offset, Data: []byte(data), Crc: transport.Sum(0, []byte(data))}}}
}

func end(data string) *skep.SnapshotRequest {
	return &skep.SnapshotRequest{Part: &skep.SnapshotRequest_End{End: &skep.SnapshotEnd{Size: uint64(len(data)), Crc: transport.Sum(0, []byte(data))}}}
}

func TestASnapshotIsTakenOnlyWhole(t *testing.T) {
	t.Parallel()
	damagedChunk := chunk(0, "ab")
	damagedChunk.GetChunk().Data[0] ^= 1
	tests := map[string]struct {
		caller string
		in     []*skep.SnapshotRequest
		whole  string
		code   codes.Code
	}{
		"all of it":              {"n2", []*skep.SnapshotRequest{header(2), chunk(0, "ab"), chunk(2, "c"), end("abc")}, "abc", codes.OK},
		"an empty one":           {"n2", []*skep.SnapshotRequest{header(2), end("")}, "", codes.OK},
		"a damaged chunk":        {"n2", []*skep.SnapshotRequest{header(2), damagedChunk}, "", codes.DataLoss},
		"a gap":                  {"n2", []*skep.SnapshotRequest{header(2), chunk(0, "ab"), chunk(3, "d")}, "", codes.InvalidArgument},
		"a chunk twice":          {"n2", []*skep.SnapshotRequest{header(2), chunk(0, "ab"), chunk(0, "ab")}, "", codes.InvalidArgument},
		"an empty chunk":         {"n2", []*skep.SnapshotRequest{header(2), chunk(0, "")}, "", codes.InvalidArgument},
		"too large a chunk":      {"n2", []*skep.SnapshotRequest{header(2), chunk(0, string(make([]byte, transport.MaxChunk+1)))}, "", codes.InvalidArgument},
		"another sum at the end": {"n2", []*skep.SnapshotRequest{header(2), chunk(0, "ab"), end("ax")}, "", codes.DataLoss},
		"a shorter end":          {"n2", []*skep.SnapshotRequest{header(2), chunk(0, "ab"), end("a")}, "", codes.DataLoss},
		"no end":                 {"n2", []*skep.SnapshotRequest{header(2), chunk(0, "ab")}, "", codes.InvalidArgument},
		"no header":              {"n2", []*skep.SnapshotRequest{chunk(0, "ab")}, "", codes.InvalidArgument},
		"two headers":            {"n2", []*skep.SnapshotRequest{header(2), header(2)}, "", codes.InvalidArgument},
		"an empty part":          {"n2", []*skep.SnapshotRequest{header(2), {}}, "", codes.InvalidArgument},
		"another member's":       {"n3", []*skep.SnapshotRequest{header(2)}, "", codes.PermissionDenied},
		"a removed member's":     {"n4", []*skep.SnapshotRequest{header(4)}, "", codes.NotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, member, _ := serve()
			stream := &snapshots{ctx: from(test.caller), in: test.in}
			err := (&Replication{Raft: s}).Snapshot(stream)
			if codeOf(err) != test.code || stream.done != (test.code == codes.OK) {
				t.Errorf("%v, done %v", err, stream.done)
			}
			if committed := len(member.whole) == 1; committed != stream.done || committed && string(member.whole[0]) != test.whole {
				t.Errorf("taken: %q", member.whole)
			}
		})
	}
}

func TestASnapshotThatGoesOnIsCheckedAsAWhole(t *testing.T) {
	t.Parallel()
	s, member, _ := serve()
	r := &Replication{Raft: s}
	if err := r.Snapshot(&snapshots{ctx: from("n2"), in: []*skep.SnapshotRequest{header(2), chunk(0, "ab")}}); err == nil {
		t.Fatal("it ended well without an end")
	}
	member.partial[0] = 'x' // and the disk lost what was there
	stream := &snapshots{ctx: from("n2"), in: []*skep.SnapshotRequest{header(2), chunk(2, "cd"), end("xbcd")}}
	if err := r.Snapshot(stream); codeOf(err) != codes.DataLoss || member.aborted != 1 {
		t.Errorf("a whole with another sum: %v", err)
	}
	if len(stream.offsets) == 0 || stream.offsets[0] != 2 {
		t.Errorf("it went on at %v", stream.offsets)
	}
}

// The fakes of streams: what comes in is there already.

type parts struct {
	grpc.ServerStream
	ctx      context.Context
	in       []*api.StreamRaftMessageRequest
	answered bool
}

func (s *parts) Context() context.Context                     { return s.ctx }
func (s *parts) Recv() (*api.StreamRaftMessageRequest, error) { return pop(&s.in) }
func (s *parts) SendAndClose(*api.StreamRaftMessageResponse) error {
	s.answered = true
	return nil
}

type messages struct {
	grpc.ServerStream
	ctx    context.Context
	in     []*skep.MessagesRequest
	acks   []uint64
	had    []*skep.Had
	before func(int)
	n      int
}

func (s *messages) Context() context.Context { return s.ctx }
func (s *messages) Recv() (*skep.MessagesRequest, error) {
	if s.before != nil {
		s.before(s.n)
	}
	s.n++
	return pop(&s.in)
}
func (s *messages) Send(r *skep.MessagesResponse) error {
	s.acks, s.had = append(s.acks, r.GetAck()), append(s.had, r.GetHad()...)
	return nil
}

type snapshots struct {
	grpc.ServerStream
	ctx     context.Context
	in      []*skep.SnapshotRequest
	offsets []uint64
	done    bool
}

func (s *snapshots) Context() context.Context             { return s.ctx }
func (s *snapshots) Recv() (*skep.SnapshotRequest, error) { return pop(&s.in) }
func (s *snapshots) Send(r *skep.SnapshotResponse) error {
	s.offsets = append(s.offsets, r.GetOffset())
	s.done = r.GetDone()
	return nil
}

func pop[T any](in *[]*T) (*T, error) {
	if len(*in) == 0 {
		return nil, io.EOF
	}
	first := (*in)[0]
	*in = (*in)[1:]
	return first, nil
}

func TestNoRaftMessageBreaksTheServer(t *testing.T) {
	t.Parallel()
	fresh := func(testing.TB) badinput.Server {
		s, member, _ := serve()
		return badinput.Server{Impl: asNode{s}, State: func() string { return fmt.Sprint(len(member.got)) }}
	}
	good := []proto.Message{&api.ProcessRaftMessageRequest{Message: msg(raftpb.MsgApp, 2, 1)}, &api.ResolveAddressRequest{RaftId: 2}}
	badinput.Try(t, &api.Raft_ServiceDesc, fresh, good, sensible)
}

// asNode calls as node n2.
type asNode struct{ *Raft }

func (s asNode) ProcessRaftMessage(ctx context.Context, r *api.ProcessRaftMessageRequest) (*api.ProcessRaftMessageResponse, error) {
	return s.Raft.ProcessRaftMessage(rpc.WithCaller(ctx, rpc.Identity{NodeID: "n2"}), r)
}

func sensible(err error) bool {
	switch codeOf(err) {
	case codes.NotFound, codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented, codes.ResourceExhausted, codes.DataLoss:
		return true
	default:
		return false
	}
}

// decoded reads messages with their lengths before them; what cannot be read is left out.
func decoded[T any, P interface {
	*T
	proto.Message
}](data []byte) []*T {
	var out []*T
	for {
		piece, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return out
		}
		data = data[n:]
		m := P(new(T))
		if proto.Unmarshal(piece, m) == nil {
			out = append(out, (*T)(m))
		}
	}
}

func encoded[T proto.Message](f *testing.F, messages ...T) []byte {
	var out []byte
	for _, m := range messages {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		out = protowire.AppendBytes(out, b)
	}
	return out
}

func FuzzStreamRaftMessage(f *testing.F) {
	f.Add(encoded(f, &api.StreamRaftMessageRequest{Message: snapshotPart(9, "ab")}, &api.StreamRaftMessageRequest{Message: snapshotPart(9, "cd")}))
	f.Add(encoded(f, &api.StreamRaftMessageRequest{Message: msg(raftpb.MsgApp, 2, 1)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, member, _ := serve()
		s.MaxSnapshot = 100
		s.Restore = func(_ context.Context, m *raftpb.Message) error {
			if n := len(m.GetSnapshot().GetData()); n > s.MaxSnapshot {
				t.Errorf("a snapshot of %d bytes was taken", n)
			}
			return nil
		}
		stream := &parts{ctx: from("n2"), in: decoded[api.StreamRaftMessageRequest](data)}
		err := s.StreamRaftMessage(stream)
		if err != nil && !sensible(err) {
			t.Errorf("not a sensible error: %v", err)
		}
		for _, m := range member.got {
			if m.GetFrom() != 2 || m.GetTo() != 1 || !between(m.GetType()) || m.GetType() == raftpb.MsgSnap {
				t.Errorf("taken: %v", m)
			}
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add(encoded(f, &skep.MessagesRequest{Hello: &skep.Hello{From: 2, To: 1}},
		&skep.MessagesRequest{Messages: []*raftpb.Message{msg(raftpb.MsgApp, 2, 1)}, Hashes: []*skep.StateHash{{Index: 1}}, Had: []*skep.Had{{Member: 1, Term: 1, Index: 5}}, Ack: 1}))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, member, _ := serve()
		err := (&Replication{Raft: s}).Messages(&messages{ctx: from("n2"), in: decoded[skep.MessagesRequest](data)})
		if err != nil && !errors.Is(err, io.EOF) && !sensible(err) {
			t.Errorf("not a sensible error: %v", err)
		}
		for _, m := range member.got {
			if m.GetFrom() != 2 || m.GetTo() != 1 || !between(m.GetType()) || m.GetType() == raftpb.MsgSnap {
				t.Errorf("taken: %v", m)
			}
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add(encoded(f, header(2), chunk(0, "ab"), chunk(2, "c"), end("abc")))
	f.Add(encoded(f, header(2), chunk(0, "ab"), end("abc")))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, member, _ := serve()
		in := decoded[skep.SnapshotRequest](data)
		var want []byte
		for _, r := range in {
			want = append(want, r.GetChunk().GetData()...)
		}
		err := (&Replication{Raft: s}).Snapshot(&snapshots{ctx: from("n2"), in: in})
		if err != nil && !errors.Is(err, io.EOF) && !sensible(err) {
			t.Errorf("not a sensible error: %v", err)
		}
		for _, whole := range member.whole {
			if err != nil || len(whole) > len(want) || string(whole) != string(want[:len(whole)]) {
				t.Errorf("taken: %q, of %q: %v", whole, want, err)
			}
		}
	})
}

func TestWhatIsRejectedIsCountedByReason(t *testing.T) {
	t.Parallel()
	s, _, registry := serve()
	for range 3 {
		_, _ = s.ProcessRaftMessage(from("n2"), &api.ProcessRaftMessageRequest{Message: msg(raftpb.MsgApp, 3, 1)})
	}
	if n := counted(t, registry, mismatch); n != 3 {
		t.Errorf("counted %d, want 3", n)
	}
	if n := testutil.CollectAndCount(registry, "swarm_raft_rejected_messages_total"); n != 8 {
		t.Errorf("%d series, want one for each reason", n)
	}
}

func TestALeaderThatIsAnotherMemberThanBeforeIsHeardByWhoKnowsOfNone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		caller string
		m      *raftpb.Message
		leader uint64 // of those that are known
		code   codes.Code
		reason string
	}{
		"it leads":                                   {"n2", msg(raftpb.MsgApp, 9, 1), 0, codes.OK, ""},
		"it shows that it leads":                     {"n2", msg(raftpb.MsgHeartbeat, 9, 1), 0, codes.OK, ""},
		"it wants a vote":                            {"n2", msg(raftpb.MsgVote, 9, 1), 0, codes.OK, unknown},
		"somebody leads who is known":                {"n2", msg(raftpb.MsgApp, 9, 1), 3, codes.PermissionDenied, mismatch},
		"this one leads":                             {"n2", msg(raftpb.MsgApp, 9, 1), 1, codes.PermissionDenied, mismatch},
		"in the name of a member":                    {"n2", msg(raftpb.MsgApp, 3, 1), 0, codes.PermissionDenied, mismatch},
		"in the name of one that was removed":        {"n2", msg(raftpb.MsgApp, 4, 1), 0, codes.NotFound, removed},
		"somebody new":                               {"n9", msg(raftpb.MsgApp, 9, 1), 0, codes.OK, ""},
		"somebody new, while another one leads":      {"n9", msg(raftpb.MsgApp, 9, 1), 3, codes.OK, ""},
		"somebody new, who is only a member's equal": {"n9", msg(raftpb.MsgAppResp, 9, 1), 0, codes.OK, unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, member, registry := serve()
			members := s.Members()
			s.Members = func() []*api.RaftMember { return members }
			for _, m := range members {
				m.Status = &api.RaftMemberStatus{Leader: m.GetRaftId() == test.leader}
			}
			hello := &skep.MessagesRequest{Hello: &skep.Hello{From: test.m.GetFrom(), To: 1}, Messages: []*raftpb.Message{test.m}}
			err := (&Replication{Raft: s}).Messages(&messages{ctx: from(test.caller), in: []*skep.MessagesRequest{hello}})
			if errors.Is(err, io.EOF) {
				err = nil
			}
			taken := test.reason == ""
			if codeOf(err) != test.code || (len(member.got) == 1) != taken || slices.Equal(member.met, []uint64{9}) != taken {
				t.Errorf("%v, %d messages taken, met %v", err, len(member.got), member.met)
			}
			if !taken && counted(t, registry, test.reason) == 0 {
				t.Errorf("not counted as %s", test.reason)
			}
		})
	}
}
