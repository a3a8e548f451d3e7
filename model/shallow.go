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
func Shallow[M proto.Message](m M) M {
	m.ProtoReflect() // settles the message's lazy type information before it is read
	src := reflect.ValueOf(m)
	dst := reflect.New(src.Type().Elem())
	dst.Elem().Set(src.Elem())
	return dst.Interface().(M)
}
