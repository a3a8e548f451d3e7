package store

import (
	"reflect"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

// same reports whether two objects of a kind are equal but for their meta.
func same(a, b Object) bool {
	if x, ok := a.(*api.Task); ok && progressed(x, b.(*api.Task)) {
		return false
	}
	x, y := model.Shallow(a), model.Shallow(b)
	setMeta(x, nil)
	setMeta(y, nil)
	// Who changes an object shares with it what stays as it was: that need not be compared.
	vx, vy := reflect.ValueOf(x).Elem(), reflect.ValueOf(y).Elem()
	for i := range vx.NumField() {
		fx, fy := vx.Field(i), vy.Field(i)
		if fx.Kind() == reflect.Pointer && fx.CanSet() && fx.Pointer() == fy.Pointer() {
			fx.SetZero()
			fy.SetZero()
		}
	}
	return proto.Equal(x, y)
}

// progressed reports whether a and b differ in what nearly every write to a
// task changes. That they do not says nothing about the rest.
func progressed(a, b *api.Task) bool {
	x, y := a.GetStatus(), b.GetStatus()
	return x.GetState() != y.GetState() ||
		x.GetTimestamp().GetSeconds() != y.GetTimestamp().GetSeconds() ||
		x.GetTimestamp().GetNanos() != y.GetTimestamp().GetNanos() ||
		x.GetMessage() != y.GetMessage() ||
		x.GetErr() != y.GetErr() ||
		a.GetDesiredState() != b.GetDesiredState() ||
		a.GetNodeId() != b.GetNodeId()
}
