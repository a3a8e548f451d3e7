package api_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"skep/api"
	"skep/api/skep"
)

// files are all that package api and package skep register.
func files(t *testing.T) []protoreflect.FileDescriptor {
	t.Helper()
	own := []protoreflect.FullName{
		api.File_api_types_proto.Package(), api.File_api_plugin_proto.Package(), skep.File_api_skep_skep_proto.Package(),
	}
	var out []protoreflect.FileDescriptor
	count := map[protoreflect.FullName]int{}
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if slices.Contains(own, f.Package()) {
			out = append(out, f)
			count[f.Package()]++
		}
		return true
	})
	if count[own[0]] != 12 || count[own[1]] != 1 || count[own[2]] == 0 {
		t.Fatalf("found %v, want the 12 files of the contract, plugin.proto, and those of skep.v1", count)
	}
	return out
}

func TestUnknownFieldsSurviveARoundTripInEveryMessage(t *testing.T) {
	t.Parallel()
	const number = 20000 // no message here has it
	unknown := protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), "from a newer peer")
	for _, f := range files(t) {
		for _, d := range messageTypes(f.Messages()) {
			kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
			if err != nil {
				t.Fatal(err)
			}
			sent := kind.New()
			sent.SetUnknown(unknown)
			for i := range d.Fields().Len() {
				// The messages inside, too; of a oneof, its last.
				if f := d.Fields().Get(i); f.Message() != nil && !f.IsMap() && !f.IsList() {
					sent.Mutable(f).Message().SetUnknown(unknown)
				}
			}
			data, err := proto.Marshal(sent.Interface())
			if err != nil {
				t.Fatalf("encode %s: %v", d.FullName(), err)
			}
			got := kind.New()
			if err := proto.Unmarshal(data, got.Interface()); err != nil {
				t.Fatalf("decode %s: %v", d.FullName(), err)
			}
			if !bytes.Equal(got.GetUnknown(), unknown) || !proto.Equal(got.Interface(), sent.Interface()) {
				t.Errorf("%s came back as %v, want %v", d.FullName(), got, sent)
			}
		}
	}
}

func messageTypes(list protoreflect.MessageDescriptors) (types []protoreflect.MessageDescriptor) {
	for i := range list.Len() {
		if d := list.Get(i); !d.IsMapEntry() {
			types = append(types, d)
			types = append(types, messageTypes(d.Messages())...)
		}
	}
	return types
}

func TestEveryMethodSaysWhoMayCallIt(t *testing.T) {
	t.Parallel()
	known := []string{"swarm-manager", "swarm-worker"}
	methods := 0
	for _, f := range files(t) {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				methods++
				rule, ok := proto.GetExtension(m.Options(), api.E_TlsAuthorization).(*api.TLSAuthorization)
				switch {
				case !ok || rule == nil:
					t.Errorf("%s has no tls_authorization", m.FullName())
				case rule.GetInsecure() == (len(rule.GetRoles()) > 0):
					t.Errorf("%s: insecure is %v and roles are %v, want one of the two", m.FullName(), rule.GetInsecure(), rule.GetRoles())
				}
				for _, role := range rule.GetRoles() {
					if !slices.Contains(known, role) {
						t.Errorf("%s is for role %q, which is none of %v", m.FullName(), role, known)
					}
				}
			}
		}
	}
	if methods < 60 {
		t.Errorf("found %d methods, which cannot be all", methods)
	}
}
