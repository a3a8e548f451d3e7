package model

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// MaxDuration bounds every duration in a spec, so that sums of a few never overflow.
const MaxDuration = 100 * 365 * 24 * time.Hour

// CheckWellFormed checks what holds for the values of every spec, whatever they
// mean: enum numbers are ones this version knows, durations lie between 0 and
// MaxDuration, numbers are finite, text is UTF-8. what begins the path in the
// error ("service"). A nil message is well formed.
func CheckWellFormed(what string, m proto.Message) error {
	if m == nil || !m.ProtoReflect().IsValid() {
		return nil
	}
	if f := faultOf(m.ProtoReflect()); f != nil {
		return Errorf(Invalid, "%s.%s %s", what, f.path, f.text)
	}
	return nil
}

// fault is what is wrong and, built on the way up, where.
type fault struct{ path, text string }

func (f *fault) under(name string) *fault {
	if f == nil {
		return nil
	}
	if f.path == "" {
		f.path = name
	} else {
		f.path = name + "." + f.path
	}
	return f
}

func faultOf(m protoreflect.Message) *fault {
	if !m.IsValid() { // a nil pointer among others: it cannot arrive over the wire
		return &fault{text: "is nil: leave it out, or set it"}
	}
	if d, ok := m.Interface().(*durationpb.Duration); ok {
		return durationFault(d)
	}
	fields := m.Descriptor().Fields() // in order, so that the same spec gives the same error
	for i := range fields.Len() {
		field := fields.Get(i)
		if !m.Has(field) {
			continue
		}
		if f := fieldFault(field, m.Get(field)); f != nil {
			return f.under(string(field.Name()))
		}
	}
	return nil
}

func fieldFault(field protoreflect.FieldDescriptor, v protoreflect.Value) *fault {
	switch {
	case field.IsMap():
		var found *fault
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			if found = valueFault(field.MapKey(), k.Value()); found == nil {
				found = valueFault(field.MapValue(), v)
			}
			return found == nil
		})
		return found
	case field.IsList():
		list := v.List()
		for i := range list.Len() {
			if f := valueFault(field, list.Get(i)); f != nil {
				return f.under(strconv.Itoa(i))
			}
		}
		return nil
	}
	return valueFault(field, v)
}

func valueFault(field protoreflect.FieldDescriptor, v protoreflect.Value) *fault {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return faultOf(v.Message())
	case protoreflect.EnumKind:
		if field.Enum().Values().ByNumber(v.Enum()) == nil {
			return &fault{text: "is " + strconv.Itoa(int(v.Enum())) + ", which this version does not know: use one of the values of " + string(field.Enum().Name())}
		}
	case protoreflect.StringKind:
		if !utf8.ValidString(v.String()) {
			return &fault{text: "is not valid UTF-8: text is UTF-8; encode it so"}
		}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			return &fault{text: "is not a finite number: give one"}
		}
	}
	return nil
}

func durationFault(d *durationpb.Duration) *fault {
	switch {
	case d.CheckValid() != nil:
		return &fault{text: "is no duration: seconds and nanoseconds are out of range or have different signs; send a normalised one"}
	case d.GetSeconds() < 0 || d.GetNanos() < 0:
		return &fault{text: "is negative: give a duration of 0 or more"}
	case d.GetSeconds() > int64(MaxDuration/time.Second):
		return &fault{text: "is longer than 100 years: give a shorter one"}
	}
	return nil
}
