package badinput

import (
	"fmt"
	"iter"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Huge is the size of the texts and bytes that are too large, in bytes.
const Huge = 1 << 20

// maxDepth bounds how deep messages are filled that m itself does not have.
const maxDepth = 12

// Mutants yields copies of m that differ from it in one place each, and says in
// which. Messages inside an Any of a known type are changed too. m stays as it
// is; each copy belongs to the caller.
func Mutants(m proto.Message) iter.Seq2[string, proto.Message] { return mutants(m, maxDepth) }

// mutants is Mutants as deep as depth.
func mutants(m proto.Message, depth int) iter.Seq2[string, proto.Message] {
	return func(yield func(string, proto.Message) bool) {
		w := walk{root: m, depth: depth, yield: yield}
		w.message(nil, m.ProtoReflect())
	}
}

// step leads from one message to one inside it.
type step struct {
	name string
	into func(protoreflect.Message) protoreflect.Message
}

type walk struct {
	root  proto.Message
	depth int
	yield func(string, proto.Message) bool
	done  bool
}

// mutant yields a copy of the root in which change was made to the message that
// path leads to.
func (w *walk) mutant(path []step, what string, change func(protoreflect.Message)) {
	if w.done {
		return
	}
	c := proto.Clone(w.root)
	m := c.ProtoReflect()
	names := make([]string, len(path))
	for i, s := range path {
		m, names[i] = s.into(m), s.name
	}
	change(m)
	w.done = !w.yield(strings.Join(append(names, what), "."), c)
}

func (w *walk) message(path []step, m protoreflect.Message) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		w.any(path, packed)
	}
	fields := m.Descriptor().Fields()
	for i := 0; i < fields.Len() && !w.done; i++ {
		field := fields.Get(i)
		name := string(field.Name())
		if m.Has(field) {
			w.mutant(path, name+" missing", func(m protoreflect.Message) { m.Clear(field) })
		}
		switch {
		case field.IsMap():
			w.mapField(path, field)
		case field.IsList():
			w.listField(path, field, m)
		case field.Message() != nil:
			w.mutant(path, name+" empty", func(m protoreflect.Message) { m.Set(field, m.NewField(field)) })
			if len(path) < w.depth {
				inner := step{name, func(m protoreflect.Message) protoreflect.Message { return m.Mutable(field).Message() }}
				w.message(append(path[:len(path):len(path)], inner), m.Get(field).Message())
			}
		default:
			for what, v := range wrong(field) {
				w.mutant(path, name+" "+what, func(m protoreflect.Message) { m.Set(field, v) })
			}
		}
	}
}

// any changes what an Any of a known type holds, and packs it again.
func (w *walk) any(path []step, packed *anypb.Any) {
	inner, err := packed.UnmarshalNew()
	if err != nil {
		return
	}
	for what, mutant := range Mutants(inner) {
		w.mutant(path, "("+what+")", func(m protoreflect.Message) {
			// What cannot be encoded (text that is not UTF-8) cannot arrive either.
			if value, err := proto.Marshal(mutant); err == nil {
				m.Interface().(*anypb.Any).Value = value
			}
		})
	}
}

func (w *walk) listField(path []step, field protoreflect.FieldDescriptor, m protoreflect.Message) {
	name := string(field.Name())
	list := m.Get(field).List()
	if list.Len() > 0 {
		w.mutant(path, name+" twice", func(m protoreflect.Message) {
			list := m.Mutable(field).List()
			for i := range list.Len() {
				list.Append(list.Get(i))
			}
		})
	}
	if field.Message() == nil {
		for what, v := range wrong(field) {
			w.mutant(path, name+" with one "+what, func(m protoreflect.Message) { m.Mutable(field).List().Append(v) })
		}
		return
	}
	w.mutant(path, name+" with an empty one", func(m protoreflect.Message) { m.Mutable(field).List().AppendMutable() })
	w.mutant(path, name+" with a nil one", func(m protoreflect.Message) {
		list := m.Mutable(field).List()
		list.Append(protoreflect.ValueOfMessage(list.NewElement().Message().Type().Zero()))
	})
	if len(path) >= w.depth {
		return
	}
	// The first element, or one that is added.
	first := step{name + "[0]", func(m protoreflect.Message) protoreflect.Message {
		list := m.Mutable(field).List()
		if list.Len() == 0 {
			list.AppendMutable()
		}
		return list.Get(0).Message()
	}}
	element := list.NewElement().Message()
	if list.Len() > 0 {
		element = list.Get(0).Message()
	}
	w.message(append(path[:len(path):len(path)], first), element)
}

func (w *walk) mapField(path []step, field protoreflect.FieldDescriptor) {
	name := string(field.Name())
	for what, key := range wrong(field.MapKey()) {
		w.mutant(path, name+" with key "+what, func(m protoreflect.Message) {
			entries := m.Mutable(field).Map()
			entries.Set(key.MapKey(), entries.NewValue())
		})
	}
	if field.MapValue().Message() != nil || field.MapKey().Kind() != protoreflect.StringKind {
		return
	}
	for what, v := range wrong(field.MapValue()) {
		w.mutant(path, name+" with value "+what, func(m protoreflect.Message) {
			m.Mutable(field).Map().Set(protoreflect.ValueOfString("key").MapKey(), v)
		})
	}
}

// wrong yields values of a scalar field that are missing, out of range or huge.
func wrong(field protoreflect.FieldDescriptor) iter.Seq2[string, protoreflect.Value] {
	return func(yield func(string, protoreflect.Value) bool) {
		for _, v := range values(field.Kind()) {
			if !yield(said(v), v) {
				return
			}
		}
	}
}

// said describes a value, without its content where that is huge.
func said(v protoreflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		if len(x) == Huge {
			return fmt.Sprintf("of %d bytes", Huge)
		}
		return fmt.Sprintf("%q", x)
	case []byte:
		return fmt.Sprintf("of %d bytes", len(x))
	default:
		return fmt.Sprint(x)
	}
}

func values(kind protoreflect.Kind) []protoreflect.Value {
	switch kind {
	case protoreflect.BoolKind:
		return []protoreflect.Value{protoreflect.ValueOfBool(false), protoreflect.ValueOfBool(true)}
	case protoreflect.EnumKind:
		return []protoreflect.Value{protoreflect.ValueOfEnum(0), protoreflect.ValueOfEnum(1), protoreflect.ValueOfEnum(-1), protoreflect.ValueOfEnum(math.MaxInt32)}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt32(0), protoreflect.ValueOfInt32(-1), protoreflect.ValueOfInt32(math.MinInt32), protoreflect.ValueOfInt32(math.MaxInt32)}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt64(0), protoreflect.ValueOfInt64(-1), protoreflect.ValueOfInt64(math.MinInt64), protoreflect.ValueOfInt64(math.MaxInt64)}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint32(0), protoreflect.ValueOfUint32(math.MaxUint32)}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint64(0), protoreflect.ValueOfUint64(math.MaxInt64), protoreflect.ValueOfUint64(math.MaxUint64)}
	case protoreflect.FloatKind:
		return []protoreflect.Value{protoreflect.ValueOfFloat32(-1), protoreflect.ValueOfFloat32(float32(math.NaN())), protoreflect.ValueOfFloat32(float32(math.Inf(1))), protoreflect.ValueOfFloat32(math.MaxFloat32)}
	case protoreflect.DoubleKind:
		return []protoreflect.Value{protoreflect.ValueOfFloat64(-1), protoreflect.ValueOfFloat64(math.NaN()), protoreflect.ValueOfFloat64(math.Inf(1)), protoreflect.ValueOfFloat64(math.MaxFloat64)}
	case protoreflect.StringKind:
		return []protoreflect.Value{protoreflect.ValueOfString(""), protoreflect.ValueOfString("\x00"), protoreflect.ValueOfString("\xff"), protoreflect.ValueOfString("no such thing"), protoreflect.ValueOfString(strings.Repeat("x", Huge))}
	case protoreflect.BytesKind:
		return []protoreflect.Value{protoreflect.ValueOfBytes(nil), protoreflect.ValueOfBytes([]byte{0xff}), protoreflect.ValueOfBytes(make([]byte, Huge))}
	}
	return nil
}
