package badinput

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Fill sets every field of m, and those of the messages in it as deep as depth: texts, bytes and keys to
// text, numbers to 1, enums to their last value. A message in which every reference is text refers
// to nothing.
func Fill(m protoreflect.Message, depth int, text string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		message := f.Message()
		if f.IsMap() {
			message = f.MapValue().Message()
		}
		if message != nil && depth == 0 {
			continue
		}
		switch {
		case f.IsMap():
			value := m.NewField(f).Map().NewValue()
			if message == nil {
				value = scalar(f.MapValue(), text)
			} else {
				Fill(value.Message(), depth-1, text)
			}
			m.Mutable(f).Map().Set(scalar(f.MapKey(), text).MapKey(), value)
		case f.IsList() && message != nil:
			Fill(m.Mutable(f).List().AppendMutable().Message(), depth-1, text)
		case f.IsList():
			m.Mutable(f).List().Append(scalar(f, text))
		case message != nil:
			Fill(m.Mutable(f).Message(), depth-1, text)
		default:
			m.Set(f, scalar(f, text))
		}
	}
}

func scalar(f protoreflect.FieldDescriptor, text string) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(1)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(1)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(1)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	}
	panic(fmt.Sprintf("field %s is of kind %s", f.FullName(), f.Kind()))
}
