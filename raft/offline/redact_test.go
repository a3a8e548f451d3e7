package offline_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/api"
	"skep/raft/offline"
)

// What a field of bytes holds is a secret unless it is in this list. Whoever adds one
// decides here.
func TestBytesThatAreShownAreKnownToBePublic(t *testing.T) {
	t.Parallel()
	seen := map[protoreflect.FullName]bool{}
	var shown []string
	var walk func(protoreflect.Message)
	walk = func(m protoreflect.Message) {
		if seen[m.Descriptor().FullName()] || strings.HasPrefix(string(m.Descriptor().FullName()), "google.") {
			return
		}
		seen[m.Descriptor().FullName()] = true
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			switch {
			case field.IsMap() && field.MapValue().Message() != nil:
				walk(m.New().Mutable(field).Map().NewValue().Message())
			case field.IsMap():
			case field.Message() != nil && field.IsList():
				walk(m.NewField(field).List().NewElement().Message())
			case field.Message() != nil:
				walk(m.NewField(field).Message())
			case field.Kind() == protoreflect.BytesKind && !field.IsList():
				one := m.New()
				one.Set(field, protoreflect.ValueOfBytes([]byte("x")))
				offline.Redact(one.Interface())
				if one.Has(field) {
					shown = append(shown, strings.TrimPrefix(string(field.FullName()), "docker.swarmkit.v1."))
				}
			}
		}
	}
	walk((&api.InternalRaftRequest{}).ProtoReflect())
	slices.Sort(shown)
	want := []string{
		"CAConfig.signing_ca_cert", "Certificate.certificate", "Certificate.csr", "ExternalCA.ca_cert",
		"NodeTLSInfo.cert_issuer_public_key", "NodeTLSInfo.cert_issuer_subject", "NodeTLSInfo.trust_root",
		"Privileges.SeccompOpts.profile", "RootCA.ca_cert", "RootRotation.ca_cert", "RootRotation.cross_signed_ca_cert",
	}
	if !slices.Equal(shown, want) {
		t.Errorf("shown are\n%q, want\n%q", shown, want)
	}
	if len(seen) < 50 {
		t.Errorf("%d messages cannot be all", len(seen))
	}
}
