package controlapi_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/ca"
	"skep/internal/badinput"
	"skep/rpc/controlapi"
	"skep/store"
)

// Every RPC of Control, with each field missing, wrong or huge: an answer, or an
// error with a sensible kind that has changed nothing; never a panic.
func TestNoRequestBreaksTheServer(t *testing.T) {
	t.Parallel()
	badinput.Try(t, &api.Control_ServiceDesc, freshServer(t), goodRequests(t), sensible)
}

func FuzzControl(f *testing.F) {
	badinput.Fuzz(f, &api.Control_ServiceDesc, freshServer(f), goodRequests(f), sensible)
}

// freshServer returns what makes servers over the same small cluster.
func freshServer(t testing.TB) func(testing.TB) badinput.Server {
	var all []store.Object
	for line := range lines(cluster) {
		o := object(t, line)
		if c, ok := o.(*api.Cluster); ok { // one whose root can be rotated
			root, key, err := ca.NewRoot(now())
			if err != nil {
				t.Fatal(err)
			}
			if c.RootCa, err = ca.NewRootCA(root, key); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, o)
	}
	return func(t testing.TB) badinput.Server {
		s := storeOf(t, all)
		return badinput.Server{Impl: newServer(s), State: func() string { return stateOf(s) }}
	}
}

// goodRequests returns requests that are carried out, or refused for a reason
// that comes after all checks of the request itself.
func goodRequests(t testing.TB) []proto.Message {
	const version = `{ index: 1 }`
	var requests []proto.Message
	add := func(m proto.Message, text string) { requests = append(requests, parse(t, m, text)) }

	add(&api.GetNodeRequest{}, `node_id: "worker"`)
	add(&api.ListNodesRequest{}, `filters { names: "beta" id_prefixes: "w" labels { key: "disk" value: "ssd" } node_labels { key: "zone" } memberships: ACCEPTED roles: WORKER name_prefixes: "b" }`)
	add(&api.UpdateNodeRequest{}, `node_id: "worker" node_version `+version+` spec { membership: ACCEPTED availability: DRAIN annotations { labels { key: "zone" value: "b" } } }`)
	add(&api.RemoveNodeRequest{}, `node_id: "gone"`)

	add(&api.GetTaskRequest{}, `task_id: "web.1"`)
	add(&api.ListTasksRequest{}, `filters { names: "web.1.web.1" id_prefixes: "web" labels { key: "tier" value: "front" } service_ids: "web" node_ids: "worker" desired_states: RUNNING name_prefixes: "w" runtimes: "container" up_to_date: true }`)
	add(&api.RemoveTaskRequest{}, `task_id: "web.1"`)

	add(&api.CreateServiceRequest{}, `spec { `+container+` }`)
	add(&api.CreateServiceRequest{}, `spec { `+process+` }`)
	add(&api.GetServiceRequest{}, `service_id: "web" insert_defaults: true`)
	add(&api.UpdateServiceRequest{}, `service_id: "web" service_version `+version+` spec { annotations { name: "web" } task { container { image: "web:3" } } replicated { replicas: 4 } }`)
	add(&api.UpdateServiceRequest{}, `service_id: "web" service_version `+version+` rollback: PREVIOUS spec { annotations { name: "web" } task { container { image: "web:3" } } replicated { replicas: 4 } }`)
	add(&api.UpdateServiceRequest{}, `service_id: "job" service_version `+version+` spec { annotations { name: "job" } task { container { image: "job" } } replicated_job { max_concurrent: 1 total_completions: 3 } }`)
	add(&api.RemoveServiceRequest{}, `service_id: "web"`)
	add(&api.ListServicesRequest{}, `filters { names: "web" id_prefixes: "w" labels { key: "tier" } name_prefixes: "w" runtimes: "container" }`)
	add(&api.ListServiceStatusesRequest{}, `services: "web" services: "hello" services: "job" services: "sweep" services: "none"`)

	add(&api.CreateNetworkRequest{}, `spec { annotations { name: "back" } driver_config { name: "overlay" } ipam { driver { name: "default" } configs { subnet: "10.1.0.0/16" range: "10.1.1.0/24" gateway: "10.1.0.1" } } }`)
	add(&api.GetNetworkRequest{}, `network_id: "network" appdata { type_url: "x/y" value: "z" }`)
	add(&api.RemoveNetworkRequest{}, `network_id: "network"`)
	add(&api.ListNetworksRequest{}, `filters { names: "front" id_prefixes: "n" name_prefixes: "f" } appdata { }`)

	add(&api.GetClusterRequest{}, `cluster_id: "cluster"`)
	add(&api.ListClustersRequest{}, `filters { names: "default" id_prefixes: "c" name_prefixes: "d" }`)
	add(&api.UpdateClusterRequest{}, `cluster_id: "cluster" cluster_version `+version+` rotation { worker_join_token: true manager_join_token: true } spec {
		annotations { name: "default" } acceptance_policy { policies { role: WORKER secret { alg: "bcrypt" data: "x" } } } orchestration { task_history_retention_limit: 3 }
		raft { heartbeat_tick: 1 election_tick: 10 } dispatcher { heartbeat_period { seconds: 5 } } ca_config { node_cert_expiry { seconds: 7200 } } task_defaults { log_driver { name: "json-file" options { key: "a" value: "b" } } } }`)

	add(&api.GetSecretRequest{}, `secret_id: "secret"`)
	add(&api.UpdateSecretRequest{}, `secret_id: "secret" secret_version `+version+` spec { annotations { name: "db" labels { key: "team" value: "b" } } }`)
	add(&api.ListSecretsRequest{}, `filters { names: "db" id_prefixes: "s" labels { key: "team" } name_prefixes: "d" }`)
	add(&api.CreateSecretRequest{}, `spec { annotations { name: "new" labels { key: "a" value: "b" } } data: "x" templating { name: "golang" } }`)
	add(&api.RemoveSecretRequest{}, `secret_id: "spare"`)

	add(&api.GetConfigRequest{}, `config_id: "config"`)
	add(&api.UpdateConfigRequest{}, `config_id: "config" config_version `+version+` spec { annotations { name: "site" labels { key: "team" value: "b" } } data: "listen 80" }`)
	add(&api.ListConfigsRequest{}, `filters { names: "site" id_prefixes: "c" name_prefixes: "s" }`)
	add(&api.CreateConfigRequest{}, `spec { annotations { name: "new" } data: "x" }`)
	add(&api.RemoveConfigRequest{}, `config_id: "old-config"`)

	add(&api.GetExtensionRequest{}, `extension_id: "extension"`)
	add(&api.CreateExtensionRequest{}, `annotations { name: "new" } description: "new things"`)
	add(&api.RemoveExtensionRequest{}, `extension_id: "unused"`)
	add(&api.GetResourceRequest{}, `resource_id: "resource"`)
	add(&api.UpdateResourceRequest{}, `resource_id: "resource" resource_version `+version+` annotations { name: "r1" labels { key: "a" value: "c" } } payload { type_url: "x/y" value: "2" }`)
	add(&api.ListResourcesRequest{}, `filters { names: "r1" id_prefixes: "r" labels { key: "a" } name_prefixes: "r" kind: "route" }`)
	add(&api.CreateResourceRequest{}, `annotations { name: "new" } kind: "route" payload { type_url: "x/y" value: "z" }`)
	add(&api.RemoveResourceRequest{}, `resource_id: "resource"`)

	add(&api.CreateVolumeRequest{}, `spec { annotations { name: "new" } driver { name: "nfs" } access_mode { mount { fs_type: "ext4" } } secrets { key: "k" secret: "secret" } capacity_range { required_bytes: 1 } }`)
	add(&api.GetVolumeRequest{}, `volume_id: "volume"`)
	add(&api.UpdateVolumeRequest{}, `volume_id: "volume" volume_version `+version+` spec { annotations { name: "data" } group: "g" driver { name: "nfs" } availability: DRAIN }`)
	add(&api.ListVolumesRequest{}, `filters { names: "data" id_prefixes: "v" name_prefixes: "d" groups: "g" drivers: "nfs" }`)
	add(&api.RemoveVolumeRequest{}, `volume_id: "volume" force: true`)
	return requests
}

// Specs with something in every corner that has rules.
const (
	container = `
		annotations { name: "new" labels { key: "a" value: "b" } }
		task {
			container {
				image: "new:1" labels { key: "a" value: "b" } env: "NODE={{.Node.Hostname}}" hostname: "{{.Service.Name}}"
				mounts { type: VOLUME source: "data-{{.Task.Slot}}" target: "/data" volume_options { driver_config { name: "local" } } }
				secrets { secret_id: "secret" secret_name: "db" file { name: "db" } }
				configs { config_id: "config" config_name: "site" file { name: "/etc/site" } }
				configs { config_id: "old-config" config_name: "old" runtime { } }
				privileges { credential_spec { config: "old-config" } }
				healthcheck { test: "CMD" interval { seconds: 1 } retries: 3 }
				stop_grace_period { seconds: 10 }
			}
			resources { limits { nano_cpus: 2000000000 } reservations { memory_bytes: 8388608 generic { discrete_resource_spec { kind: "gpu" value: 1 } } } }
			restart { condition: ANY delay { seconds: 5 } max_attempts: 3 window { seconds: 60 } }
			placement { constraints: "node.role==worker" preferences { spread { spread_descriptor: "node.labels.zone" } } platforms { os: "linux" } max_replicas: 2 }
			networks { target: "network" }
			resource_references { resource_id: "spare" resource_type: SECRET }
		}
		replicated { replicas: 3 }
		update { parallelism: 1 delay { seconds: 1 } max_failure_ratio: 0.5 monitor { seconds: 5 } }
		rollback { parallelism: 1 }
		endpoint { ports { target_port: 80 published_port: 9090 publish_mode: HOST } }`
	process = `
		annotations { name: "new" }
		task {
			generic {
				kind: "process"
				payload {
					[type.googleapis.com/skep.v1.ProcessSpec] {
						command: "new" args: "-port={{env \"PORT\"}}" env: "A=b" directory: "/" user: "www:www" stop_signal: "SIGINT" stop_grace { seconds: 1 }
						secrets { id: "secret" name: "db" target: "a/db" mode: 256 }
						configs { id: "config" name: "site" }
						health { http { path: "/healthz" } interval { seconds: 1 } timeout { seconds: 1 } retries: 3 start_period { seconds: 1 } }
					}
				}
			}
			resource_references { resource_id: "secret" resource_type: SECRET }
			resource_references { resource_id: "config" resource_type: CONFIG }
		}
		global { }
		endpoint { ports { target_port: 0 published_port: 0 publish_mode: HOST } }`
)

var _ api.ControlServer = (*controlapi.Server)(nil)
