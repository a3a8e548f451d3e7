package model

import "skep/api"

// CheckNode checks the spec of a node. Its errors have kind Invalid. A node may
// have any name, or none: it is shown by the hostname that it reports.
func CheckNode(spec *api.NodeSpec) error {
	if spec == nil {
		return Errorf(Invalid, "node has no spec: nothing says what to set; set spec")
	}
	return CheckWellFormed("node", spec)
}
