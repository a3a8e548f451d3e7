package model

import (
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// CheckNode checks the spec of a node. Its errors have kind Invalid. A node may
// have any name, or none: it is shown by the hostname that it reports.
func CheckNode(spec *api.NodeSpec) error {
	if spec == nil {
		return Errorf(Invalid, "node has no spec: nothing says what to set; set spec")
	}
	return CheckWellFormed("node", spec)
}

// SameToItself reports whether two versions of a node are the same to the node,
// which knows itself what it reports: status and description are no news to it,
// nor is bookkeeping.
func SameToItself(a, b *api.Node) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	a, b = Shallow(a), Shallow(b)
	a.Meta, a.Status, a.Description = nil, nil, nil
	b.Meta, b.Status, b.Description = nil, nil, nil
	return proto.Equal(a, b)
}
