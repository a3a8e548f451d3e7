package model

import (
	"time"

	"skep/api"
)

// ClusterName is the name of the one cluster object.
const ClusterName = "default"

// MinCertificateExpiry is the shortest lifetime that node certificates may have.
const MinCertificateExpiry = time.Hour

// CheckCluster checks the spec of the cluster. Its errors have kind Invalid.
func CheckCluster(spec *api.ClusterSpec) error {
	if spec == nil {
		return Errorf(Invalid, "cluster has no spec: nothing says what to set; set spec")
	}
	if name := spec.GetAnnotations().GetName(); name != ClusterName {
		return Errorf(Invalid, "cluster name is %.80q: the one cluster is called %q; leave the name as it is", name, ClusterName)
	}
	if err := CheckWellFormed("cluster", spec); err != nil {
		return err
	}
	if e := spec.GetCaConfig().GetNodeCertExpiry(); e != nil && e.AsDuration() < MinCertificateExpiry {
		return Errorf(Invalid, "cluster.ca_config.node_cert_expiry is %v: certificates live for %v or longer, so that they can be renewed in time; give more", e.AsDuration(), MinCertificateExpiry)
	}
	for i, p := range spec.GetAcceptancePolicy().GetPolicies() {
		if s := p.GetSecret(); s != nil && s.GetAlg() != "bcrypt" {
			return Errorf(Invalid, "cluster.acceptance_policy.policies.%d.secret has algorithm %.80q: only bcrypt is known; use that", i, s.GetAlg())
		}
	}
	return checkRaft(spec.GetRaft())
}

// checkRaft checks ticks; 0 is the default of 1 and 10.
func checkRaft(r *api.RaftConfig) error {
	heartbeat, election := r.GetHeartbeatTick(), r.GetElectionTick()
	if heartbeat == 0 {
		heartbeat = 1
	}
	if election == 0 {
		election = 10
	}
	if election <= heartbeat {
		return Errorf(Invalid, "cluster.raft.election_tick is %d and heartbeat_tick %d: managers would elect anew between two heartbeats; make the first several times the second", election, heartbeat)
	}
	return nil
}
