package model

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"skep/api"
)

// MaxTasksOfService bounds replicas, max_concurrent and total_completions: a
// number above it is a slip of the keyboard that would fill the store with tasks.
const MaxTasksOfService = 1_000_000

// MaxServiceSpec is the largest spec of a service, encoded, in bytes. A service
// object holds two of them and its ports twice more, and must fit into one entry of
// the log (1.5 MiB), as must the two tasks that an update of one slot writes.
const MaxServiceSpec = 256 << 10

// CheckService checks what can be told from a service's spec alone. Its errors
// have kind Invalid, or Unimplemented for the attachment runtime. What depends on
// the cluster (names taken, ports taken, secrets that must exist) is checked in
// the transaction that stores it, templates by package template.
func CheckService(spec *api.ServiceSpec) error {
	if spec == nil {
		return Errorf(Invalid, "service has no spec: nothing says what to run; set spec")
	}
	if err := CheckName("service", spec.GetAnnotations().GetName()); err != nil {
		return err
	}
	if err := CheckWellFormed("service", spec); err != nil {
		return err
	}
	if err := checkTask(spec.GetTask()); err != nil {
		return err
	}
	if err := checkMode(spec); err != nil {
		return err
	}
	if err := checkUpdates(spec); err != nil {
		return err
	}
	if err := checkEndpoint(spec.GetEndpoint()); err != nil {
		return err
	}
	if size := proto.Size(spec); size > MaxServiceSpec {
		return Errorf(Exhausted, "service spec is %d bytes, the limit is %d: every task carries a copy of it through the log; put large content into configs and secrets, and leave only references here", size, MaxServiceSpec)
	}
	return checkProbedPort(spec)
}

// Job reports whether spec describes a job: tasks that run to completion.
func Job(spec *api.ServiceSpec) bool {
	switch spec.GetMode().(type) {
	case *api.ServiceSpec_ReplicatedJob, *api.ServiceSpec_GlobalJob:
		return true
	}
	return false
}

// ModeName is the mode as people call it: replicated, global, replicated job or
// global job; empty when the spec has none.
func ModeName(spec *api.ServiceSpec) string {
	switch spec.GetMode().(type) {
	case *api.ServiceSpec_Replicated:
		return "replicated"
	case *api.ServiceSpec_Global:
		return "global"
	case *api.ServiceSpec_ReplicatedJob:
		return "replicated job"
	case *api.ServiceSpec_GlobalJob:
		return "global job"
	}
	return ""
}

func checkMode(spec *api.ServiceSpec) error {
	if ModeName(spec) == "" {
		return Errorf(Invalid, "service has no mode: nothing says how many tasks it has; set replicated, global, replicated_job or global_job")
	}
	for _, n := range []struct {
		name  string
		value uint64
	}{
		{"replicated.replicas", spec.GetReplicated().GetReplicas()},
		{"replicated_job.max_concurrent", spec.GetReplicatedJob().GetMaxConcurrent()},
		{"replicated_job.total_completions", spec.GetReplicatedJob().GetTotalCompletions()},
	} {
		if n.value > MaxTasksOfService {
			// A client's −1 arrives as 2⁶⁴−1, and is shown as what was meant.
			return Errorf(Invalid, "%s is %d: a service has from 0 to %d tasks; give a smaller number", n.name, int64(n.value), MaxTasksOfService)
		}
	}
	return nil
}

func checkUpdates(spec *api.ServiceSpec) error {
	if Job(spec) && (spec.GetUpdate() != nil || spec.GetRollback() != nil) {
		return Errorf(Invalid, "a job has an update or rollback block: a job's tasks are run again, not replaced step by step; leave update and rollback out")
	}
	if err := checkUpdate("update", spec.GetUpdate()); err != nil {
		return err
	}
	return checkUpdate("rollback", spec.GetRollback())
}

func checkUpdate(what string, u *api.UpdateConfig) error {
	if r := u.GetMaxFailureRatio(); !(r >= 0 && r <= 1) {
		return Errorf(Invalid, "%s.max_failure_ratio is %v: it is a share of the tasks; give a number from 0 to 1", what, r)
	}
	return nil
}

const maxPort = 65535

func checkEndpoint(e *api.EndpointSpec) error {
	type published struct {
		port     uint32
		protocol api.PortConfig_Protocol
	}
	seen := make(map[published]bool, len(e.GetPorts()))
	for i, p := range e.GetPorts() {
		if p.GetTargetPort() > maxPort || p.GetPublishedPort() > maxPort {
			return Errorf(Invalid, "endpoint.ports.%d is %s: a port number is at most %d; give another", i, PortText(p), maxPort)
		}
		if e.GetMode() == api.EndpointSpec_DNSRR && p.GetPublishMode() == api.PortConfig_INGRESS {
			return Errorf(Invalid, "port %s is published in ingress mode while the endpoint mode is dnsrr: the ingress network needs a virtual address; use endpoint mode vip or publish the port with mode=host", PortText(p))
		}
		if p.GetPublishedPort() == 0 {
			continue
		}
		key := published{p.GetPublishedPort(), p.GetProtocol()}
		if seen[key] {
			return Errorf(Invalid, "port %s is published twice: one service publishes a port and protocol once; leave one of them out", PortText(p))
		}
		seen[key] = true
	}
	return nil
}

// PortText writes a port as people do: published:target/protocol, "0:80/tcp"
// where the published number is still to be chosen.
func PortText(p *api.PortConfig) string {
	protocol := "tcp"
	switch p.GetProtocol() {
	case api.PortConfig_UDP:
		protocol = "udp"
	case api.PortConfig_SCTP:
		protocol = "sctp"
	}
	return strconv.FormatUint(uint64(p.GetPublishedPort()), 10) + ":" +
		strconv.FormatUint(uint64(p.GetTargetPort()), 10) + "/" + protocol
}
