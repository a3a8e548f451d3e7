package contract

import (
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Random makes messages whose every field may be set, within what both sides
// are bound to read: valid UTF-8, times that the contract's Go types hold.
type Random struct {
	Rand *rand.Rand
	// Known says which fields may be set; nil is all of them.
	Known func(protoreflect.FieldDescriptor) bool
	// Always says which fields are set in every message; nil is none.
	Always func(protoreflect.FieldDescriptor) bool
}

// Message returns a random message of the given type.
func (r *Random) Message(d protoreflect.MessageDescriptor) *dynamicpb.Message {
	return r.message(d, 0)
}

func (r *Random) message(d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	chosen := r.oneofs(d)
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch o := f.ContainingOneof(); {
		case r.Known != nil && !r.Known(f):
		case o != nil && chosen[o.Name()] != f:
		case o == nil && !r.set(f, depth):
		default:
			r.fill(m, f, depth)
		}
	}
	return m
}

// oneofs picks one field of each oneof, or none.
func (r *Random) oneofs(d protoreflect.MessageDescriptor) map[protoreflect.Name]protoreflect.FieldDescriptor {
	chosen := map[protoreflect.Name]protoreflect.FieldDescriptor{}
	for i := range d.Oneofs().Len() {
		o := d.Oneofs().Get(i)
		if n := r.Rand.IntN(o.Fields().Len() + 1); n < o.Fields().Len() {
			chosen[o.Name()] = o.Fields().Get(n)
		}
	}
	return chosen
}

// set decides whether a field is there: mostly, but for messages ever less
// often the deeper they are, so that the whole stays small.
func (r *Random) set(f protoreflect.FieldDescriptor, depth int) bool {
	if r.Always != nil && r.Always(f) {
		return true
	}
	if f.Message() != nil && !f.IsMap() {
		return r.Rand.IntN(2+depth) == 0
	}
	return r.Rand.IntN(4) > 0
}

func (r *Random) fill(m *dynamicpb.Message, f protoreflect.FieldDescriptor, depth int) {
	switch {
	case f.IsMap():
		entries := m.Mutable(f).Map()
		for range r.count(depth) {
			entries.Set(r.scalar(f.MapKey()).MapKey(), r.value(f.MapValue(), depth))
		}
	case f.IsList():
		list := m.Mutable(f).List()
		for range r.count(depth) {
			list.Append(r.value(f, depth))
		}
	default:
		m.Set(f, r.value(f, depth))
	}
}

// count is a length for a list or map: shorter the deeper, since raft's
// messages hold such messages again.
func (r *Random) count(depth int) int { return r.Rand.IntN(max(4-depth, 1)) }

func (r *Random) value(f protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	if f.Message() == nil {
		return r.scalar(f)
	}
	m := r.message(f.Message(), depth+1)
	switch f.Message().FullName() {
	case "google.protobuf.Timestamp", "google.protobuf.Duration":
		// Within 290 years and without a mixed sign, as Go holds them.
		number := f.Message().Fields()
		m.Set(number.ByName("seconds"), protoreflect.ValueOfInt64(r.Rand.Int64N(9e9)))
		m.Set(number.ByName("nanos"), protoreflect.ValueOfInt32(r.Rand.Int32N(1e9)))
	}
	return protoreflect.ValueOfMessage(m)
}

func (r *Random) scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.Rand.IntN(2) == 0)
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(r.Rand.IntN(values.Len())).Number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.number()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(r.number()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(r.number())
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(r.Rand.Float32())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.Rand.Float64())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(r.bytes())
	default:
		panic("the contract has no field of kind " + f.Kind().String())
	}
}

// number prefers the edges of what varints hold.
func (r *Random) number() uint64 {
	switch r.Rand.IntN(4) {
	case 0:
		return r.Rand.Uint64N(3)
	case 1:
		return ^r.Rand.Uint64N(3) // -1, -2, -3
	default:
		return r.Rand.Uint64() >> r.Rand.IntN(64)
	}
}

func (r *Random) text() string {
	alphabet := []rune("abcXYZ019-_./ \"{}\x00\nüλ日🐝")
	var b strings.Builder
	for range r.Rand.IntN(12) {
		b.WriteRune(alphabet[r.Rand.IntN(len(alphabet))])
	}
	return b.String()
}

func (r *Random) bytes() []byte {
	b := make([]byte, r.Rand.IntN(12))
	for i := range b {
		b[i] = byte(r.Rand.Uint32())
	}
	return b
}

// unknownField is a number that no message of the contract has.
const unknownField = 20000

// Unknown adds a field that the contract does not have to m and to every
// message inside it, as a newer peer would.
func (r *Random) Unknown(m protoreflect.Message) {
	field := protowire.AppendTag(nil, unknownField, protowire.BytesType)
	m.SetUnknown(protowire.AppendBytes(field, r.bytes()))
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				r.Unknown(v.Message())
				return true
			})
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				r.Unknown(v.List().Get(i).Message())
			}
		case !f.IsMap() && !f.IsList() && f.Message() != nil:
			r.Unknown(v.Message())
		}
		return true
	})
}

// Encode writes m with map entries in order, so that equal is equal bytes.
func Encode(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(m)
}
