package contract

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Describe says in sorted lines all of files that peers can tell on the wire:
// a line for each field, enum value and method, and one for each message so
// that an empty one counts too.
func Describe(files ...protoreflect.FileDescriptor) []string {
	var lines []string
	for _, f := range files {
		lines = append(lines, enums(f.Enums())...)
		lines = append(lines, messages(f.Messages())...)
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				lines = append(lines, method(methods.Get(j)))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func messages(list protoreflect.MessageDescriptors) (lines []string) {
	for i := range list.Len() {
		m := list.Get(i)
		lines = append(lines, fmt.Sprintf("message %s", m.FullName()))
		for j := range m.Fields().Len() {
			lines = append(lines, field(m.Fields().Get(j)))
		}
		lines = append(lines, enums(m.Enums())...)
		lines = append(lines, messages(m.Messages())...)
	}
	return lines
}

func enums(list protoreflect.EnumDescriptors) (lines []string) {
	for i := range list.Len() {
		e := list.Get(i)
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			lines = append(lines, fmt.Sprintf("enum %s: %s = %d", e.FullName(), v.Name(), v.Number()))
		}
	}
	return lines
}

func field(f protoreflect.FieldDescriptor) string {
	var b strings.Builder
	fmt.Fprintf(&b, "field %s = %d: %s %s", f.FullName(), f.Number(), f.Cardinality(), f.Kind())
	switch {
	case f.Message() != nil:
		fmt.Fprintf(&b, " %s", f.Message().FullName())
	case f.Enum() != nil:
		fmt.Fprintf(&b, " %s", f.Enum().FullName())
	}
	if f.IsMap() {
		b.WriteString(" map")
	}
	if f.IsPacked() {
		b.WriteString(" packed")
	}
	if f.HasPresence() {
		b.WriteString(" presence")
	}
	if o := f.ContainingOneof(); o != nil {
		fmt.Fprintf(&b, " oneof %s", o.Name())
	}
	return b.String()
}

func method(m protoreflect.MethodDescriptor) string {
	stream := map[bool]string{true: "stream "}
	return fmt.Sprintf("method %s(%s%s) returns (%s%s) for %s", m.FullName(),
		stream[m.IsStreamingClient()], m.Input().FullName(),
		stream[m.IsStreamingServer()], m.Output().FullName(), authorization(m))
}

// authorizationOption is the number of the method option that says who may call.
const authorizationOption = 73626345

// authorization reads that option from its encoding, since each side knows it
// by another Go type: the roles in order, "anyone", or "" when there is none.
func authorization(m protoreflect.MethodDescriptor) string {
	options, err := proto.Marshal(m.Options())
	if err != nil {
		return err.Error()
	}
	var who []string
	for _, rule := range fields(options, authorizationOption) {
		for _, role := range fields(rule.bytes, 1) {
			who = append(who, string(role.bytes))
		}
		for _, insecure := range fields(rule.bytes, 2) {
			if insecure.varint != 0 {
				who = append(who, "anyone")
			}
		}
	}
	slices.Sort(who)
	return strings.Join(who, "+")
}

// value is the content of one field on the wire.
type value struct {
	bytes  []byte
	varint uint64
}

// fields returns what data holds under number.
func fields(data []byte, number protowire.Number) (out []value) {
	for len(data) > 0 {
		n, kind, tag := protowire.ConsumeTag(data)
		size := protowire.ConsumeFieldValue(n, kind, data[max(tag, 0):])
		if tag < 0 || size < 0 {
			return out // Marshal wrote it: this does not happen
		}
		if n == number {
			var v value
			switch kind {
			case protowire.BytesType:
				v.bytes, _ = protowire.ConsumeBytes(data[tag:])
			case protowire.VarintType:
				v.varint, _ = protowire.ConsumeVarint(data[tag:])
			}
			out = append(out, v)
		}
		data = data[tag+size:]
	}
	return out
}
