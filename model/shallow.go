package model

import (
	"reflect"

	"google.golang.org/protobuf/proto"
)

// Shallow copies the top level of a message and shares everything below it.
// Objects in a snapshot never change, so a writer copies the level it changes:
//
//	t := model.Shallow(old)
//	t.Status = model.Shallow(old.Status)
//	t.Status.State = api.TaskState_RUNNING
//
// m may be encoded by others meanwhile: what the protobuf runtime keeps in a
// message for itself (type information, the size it had last) is not read.
func Shallow[M proto.Message](m M) M {
	src := reflect.ValueOf(m).Elem()
	dst := reflect.New(src.Type())
	for i := range src.NumField() {
		if field := dst.Elem().Field(i); field.CanSet() {
			field.Set(src.Field(i))
		}
	}
	out := dst.Interface().(M)
	if unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		out.ProtoReflect().SetUnknown(unknown)
	}
	return out
}
