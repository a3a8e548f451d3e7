package contract

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"testing"

	gogo "github.com/gogo/protobuf/proto"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"skep/test/interop/built"
)

// rounds is how many random messages of each type are exchanged.
const rounds = 30

func TestTheirCodeReadsAndWritesWhatOursDoes(t *testing.T) {
	t.Parallel()
	random, types := generator(t)
	for _, d := range types {
		for range rounds {
			sent := random.Message(d)
			there := decodeTheirs(t, d, encodeOurs(t, sent))
			back := decodeOurs(t, d, encodeTheirs(t, there))
			if !proto.Equal(back, sent) {
				t.Fatalf("%s came back from theirs as\n%s\nwant\n%s", d.FullName(), prototext.Format(back), prototext.Format(sent))
			}
			again := decodeTheirs(t, d, encodeOurs(t, back))
			if !gogo.Equal(again, there) {
				t.Fatalf("%s of theirs came back from ours as\n%v\nwant\n%v", d.FullName(), again, there)
			}
		}
	}
}

func TestOurGeneratedCodeKeepsEveryField(t *testing.T) {
	t.Parallel()
	random, types := generator(t)
	var sent []*dynamicpb.Message
	for _, d := range types {
		for range rounds {
			m := random.Message(d)
			random.Unknown(m)
			sent = append(sent, m)
		}
	}
	var in [][]byte
	for _, m := range sent {
		in = append(in, encodeOurs(t, m))
	}
	for i, out := range recode(t, sent, in) {
		d := sent[i].Descriptor()
		if got := decodeOurs(t, d, out); !proto.Equal(got, sent[i]) {
			t.Fatalf("%s came back from recode as\n%s\nwant\n%s", d.FullName(), prototext.Format(got), prototext.Format(sent[i]))
		}
	}
}

func TestOurGeneratedCodeReadsAndWritesWhatTheirsDoes(t *testing.T) {
	t.Parallel()
	random, types := generator(t)
	var sent []*dynamicpb.Message
	var theirs []gogo.Message
	var in [][]byte
	for _, d := range types {
		for range rounds {
			m := random.Message(d)
			there := decodeTheirs(t, d, encodeOurs(t, m))
			sent, theirs, in = append(sent, m), append(theirs, there), append(in, encodeTheirs(t, there))
		}
	}
	for i, out := range recode(t, sent, in) {
		d := sent[i].Descriptor()
		if got := decodeTheirs(t, d, out); !gogo.Equal(got, theirs[i]) {
			t.Fatalf("%s of theirs came back from recode as\n%v\nwant\n%v", d.FullName(), got, theirs[i])
		}
	}
}

// generator returns a source of random messages, whose seed it logs, and the
// types of the contract.
func generator(t *testing.T) (*Random, []protoreflect.MessageDescriptor) {
	t.Helper()
	ours, theirs := parties(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	raft := imported(t, theirs, "raftpb")
	always := AlwaysWritten(append(theirs, raft)...)
	random := &Random{
		Rand: rand.New(rand.NewPCG(seed, 0)),
		Known: func(f protoreflect.FieldDescriptor) bool {
			if f.ParentFile().Package() != "raftpb" {
				return true
			}
			m := raft.Messages().ByName(f.Parent().Name())
			return m != nil && m.Fields().ByNumber(f.Number()) != nil
		},
		Always: func(f protoreflect.FieldDescriptor) bool { return always[f.FullName()] },
	}
	var types []protoreflect.MessageDescriptor
	for _, f := range ours {
		types = append(types, messageTypes(f.Messages())...)
	}
	return random, types
}

func encodeOurs(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := Encode(m)
	if err != nil {
		t.Fatalf("encode ours: %v", err)
	}
	return data
}

func decodeOurs(t *testing.T, d protoreflect.MessageDescriptor, data []byte) *dynamicpb.Message {
	t.Helper()
	m := dynamicpb.NewMessage(d)
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatalf("decode %s as ours: %v", d.FullName(), err)
	}
	return m
}

func encodeTheirs(t *testing.T, m gogo.Message) []byte {
	t.Helper()
	data, err := gogo.Marshal(m)
	if err != nil {
		t.Fatalf("encode theirs: %v", err)
	}
	return data
}

func decodeTheirs(t *testing.T, d protoreflect.MessageDescriptor, data []byte) gogo.Message {
	t.Helper()
	kind := gogo.MessageType(string(d.FullName()))
	if kind == nil {
		t.Fatalf("theirs has no %s", d.FullName())
	}
	m := reflect.New(kind.Elem()).Interface().(gogo.Message)
	if err := gogo.Unmarshal(data, m); err != nil {
		t.Fatalf("decode %s as theirs: %v", d.FullName(), err)
	}
	return m
}

// recode sends data, messages of the types of sent, through our generated code.
func recode(t *testing.T, sent []*dynamicpb.Message, data [][]byte) [][]byte {
	t.Helper()
	var in, out, complaint bytes.Buffer
	for i, m := range sent {
		envelope := &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.Descriptor().FullName()), Value: data[i]}
		if _, err := protodelim.MarshalTo(&in, envelope); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), built.Command(t, "recode"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, complaint.String())
	}
	var answers [][]byte
	for r := bufio.NewReader(&out); ; {
		envelope := &anypb.Any{}
		err := protodelim.UnmarshalFrom(r, envelope)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, envelope.Value)
	}
	if len(answers) != len(sent) {
		t.Fatalf("recode answered %d of %d messages", len(answers), len(sent))
	}
	return answers
}
