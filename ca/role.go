package ca

import "skep/api"

// The names that certificates carry: organizational units, which are also the
// server names that peers verify.
const (
	// WorkerOU is the organizational unit of a worker.
	WorkerOU = "swarm-worker"
	// ManagerOU is the organizational unit of a manager and the name that
	// everybody but a joining node verifies.
	ManagerOU = "swarm-manager"
	// CAName is the common name of a root, and the name that is verified when a
	// certificate is asked for.
	CAName = "swarm-ca"
)

// OU returns the organizational unit of a role.
func OU(role api.NodeRole) string {
	if role == api.NodeRole_MANAGER {
		return ManagerOU
	}
	return WorkerOU
}

// RoleOf returns the role of an organizational unit, false when it is none of ours.
func RoleOf(ou string) (api.NodeRole, bool) {
	switch ou {
	case ManagerOU:
		return api.NodeRole_MANAGER, true
	case WorkerOU:
		return api.NodeRole_WORKER, true
	}
	return api.NodeRole_WORKER, false
}

// VersionMetadata is the gRPC metadata in which our own nodes say their version
// when they ask for a certificate. Stock engines do not send it.
const VersionMetadata = "skep-version"
