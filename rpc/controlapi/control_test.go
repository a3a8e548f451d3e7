package controlapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/api"
	"skep/model"
	"skep/rpc/controlapi"
	"skep/store"
)

// Each file is a story on a cluster of its own (see the constant cluster):
//
//	call METHOD         a request as text; prints the answer, of a list only the
//	                    IDs, or the kind of the error and its text
//	create              one object a line, past the control API
//	show KIND ID        prints what the store holds
//
// Times are left out.
func TestControl(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/control", func(t *testing.T, path string) {
		s := newStore(t, cluster)
		server := newServer(s)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "call":
				answer, err := call(t, server, d.CmdArgs[0].Key, d.Input)
				if err != nil {
					return fmt.Sprintf("%s: %v\n", kindName(err), err)
				}
				return said(answer) + "\n"
			case "create":
				if err := s.Update(t.Context(), func(tx *store.Tx) error {
					for line := range lines(d.Input) {
						if err := tx.Create(object(t, line)); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					d.Fatalf(t, "%v", err)
				}
				return ""
			case "show":
				for o := range objects(s.Read()) {
					if store.KindOf(o).String() == d.CmdArgs[0].Key && o.GetId() == d.CmdArgs[1].Key {
						return said(o) + "\n"
					}
				}
				return "nothing\n"
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

// call calls a method by its name.
func call(t testing.TB, server *controlapi.Server, method, text string) (proto.Message, error) {
	t.Helper()
	for _, m := range api.Control_ServiceDesc.Methods {
		if m.MethodName != method {
			continue
		}
		answer, err := m.Handler(server, t.Context(), func(into any) error {
			parse(t, into.(proto.Message), text)
			return nil
		}, nil)
		if err != nil {
			return nil, err
		}
		return answer.(proto.Message), nil
	}
	t.Fatalf("no method is called %q", method)
	return nil, nil
}

func kindName(err error) string {
	names := map[model.Kind]string{
		model.Invalid: "invalid", model.NotFound: "not found", model.Exists: "exists", model.Conflict: "conflict", model.Precondition: "precondition",
		model.Denied: "denied", model.Unavailable: "unavailable", model.Unknown: "unknown", model.Unimplemented: "unimplemented", model.Exhausted: "exhausted",
	}
	if name, ok := names[model.KindOf(err)]; ok {
		return name
	}
	return "internal"
}

// said prints a message on one line: an answer without fields as "done", a list
// as the IDs of its objects, anything else without times.
func said(m proto.Message) string {
	fields := m.ProtoReflect().Descriptor().Fields()
	if fields.Len() == 0 {
		return "done"
	}
	if fields.Len() == 1 && fields.Get(0).IsList() && fields.Get(0).Message().Fields().ByName("id") != nil {
		list := m.ProtoReflect().Get(fields.Get(0)).List()
		ids := make([]string, list.Len())
		for i := range ids {
			o := list.Get(i).Message()
			ids[i] = o.Get(o.Descriptor().Fields().ByName("id")).String()
		}
		return "[" + strings.Join(ids, " ") + "]"
	}
	m = proto.Clone(m)
	clearTimes(m.ProtoReflect())
	text := strings.Join(strings.Fields(prototext.MarshalOptions{Multiline: true}.Format(m)), " ")
	return strings.ReplaceAll(text, ": ", ":")
}

func clearTimes(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.Message().FullName() == "google.protobuf.Timestamp":
			m.Clear(field)
		case field.IsList():
			for i := range v.List().Len() {
				clearTimes(v.List().Get(i).Message())
			}
		default:
			clearTimes(v.Message())
		}
		return true
	})
}

// No answer to any request holds a secret, a private key, a gossip key or an
// unlock key.
func TestNoAnswerHoldsASecret(t *testing.T) {
	t.Parallel()
	for _, r := range goodRequests(t) {
		method := strings.TrimSuffix(string(r.ProtoReflect().Descriptor().Name()), "Request")
		answer, err := call(t, newServer(newStore(t, cluster)), method, prototext.Format(r))
		if err != nil {
			continue
		}
		if text := prototext.Format(answer); strings.Contains(text, `"SECRET"`) || strings.Contains(text, `"KEY"`) {
			t.Errorf("%s answers %s", method, text)
		}
	}
}
