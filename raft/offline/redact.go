package offline

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"skep/api/skep"
)

const redacted = "[redacted]"

// secret reports whether a field holds what whoever reads a dump must not learn.
func secret(field protoreflect.FieldDescriptor) bool {
	switch name := strings.TrimPrefix(string(field.FullName()), "docker.swarmkit.v1."); name {
	case "SecretSpec.data", "ConfigSpec.data",
		"ContainerSpec.env", "skep.v1.ProcessSpec.env",
		"ContainerSpec.PullOptions.registry_auth",
		"RootCA.ca_key", "RootRotation.ca_key", "CAConfig.signing_ca_key", "ExternalCA.options",
		"JoinTokens.worker", "JoinTokens.manager",
		"AcceptancePolicy.RoleAdmissionPolicy.Secret.data",
		"EncryptionKey.key", "MaybeEncryptedRecord.data",
		"Driver.options",
		"VolumeInfo.volume_context", "VolumeAssignment.volume_context",
		"VolumePublishStatus.publish_context", "VolumeAssignment.publish_context",
		"NetworkAttachment.driver_attachment_opts", "NetworkAttachmentConfig.driver_attachment_opts":
		return true
	}
	return false
}

// Redact takes out of m, in place, the data of secrets and configs, the values of
// environment variables, registry credentials, the cluster's keys and tokens, options of
// drivers and plugins, and payloads of unknown types.
func Redact(m proto.Message) { redact(m.ProtoReflect()) }

func redact(m protoreflect.Message) {
	m.SetUnknown(nil) // what is not known may be a secret
	if payload, ok := m.Interface().(*anypb.Any); ok {
		redactAny(payload)
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case secret(field):
			blank(m, field, value)
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				redact(value.List().Get(i).Message())
			}
		case !field.IsMap():
			redact(value.Message())
		case field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				redact(v.Message())
				return true
			})
		}
		return true
	})
}

// blank takes a secret out and leaves, where a person wants to know, that it is there.
func blank(m protoreflect.Message, field protoreflect.FieldDescriptor, value protoreflect.Value) {
	switch {
	case field.IsMap():
		value.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			value.Map().Set(k, protoreflect.ValueOfString(redacted))
			return true
		})
	case field.IsList():
		for i := range value.List().Len() {
			name, _, ok := strings.Cut(value.List().Get(i).String(), "=")
			if name += "=" + redacted; !ok {
				name = redacted
			}
			value.List().Set(i, protoreflect.ValueOfString(name))
		}
	case field.Kind() == protoreflect.StringKind:
		m.Set(field, protoreflect.ValueOfString(redacted))
	default:
		m.Clear(field)
	}
}

// redactAny takes the secrets out of a payload whose type is known, and the payload if it
// is not.
func redactAny(payload *anypb.Any) {
	var content proto.Message = wrapperspb.String(redacted + " " + payload.GetTypeUrl())
	if payload.MessageIs((*skep.ProcessSpec)(nil)) {
		spec := &skep.ProcessSpec{}
		if payload.UnmarshalTo(spec) == nil {
			Redact(spec)
			content = spec
		}
	}
	payload.Reset()
	if err := payload.MarshalFrom(content); err != nil {
		payload.Reset()
	}
}
