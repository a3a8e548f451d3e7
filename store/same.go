package store

import (
	"google.golang.org/protobuf/proto"

	"skep/model"
)

// same reports whether two objects of a kind are equal but for their meta.
func same(a, b Object) bool {
	c := model.Shallow(b)
	setMeta(c, a.GetMeta())
	return proto.Equal(a, c)
}
