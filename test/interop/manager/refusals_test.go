package manager

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/types"
	"github.com/moby/swarmkit/v2/api"
	"google.golang.org/grpc/codes"
)

// refusal is a request that is not carried out.
type refusal struct {
	name  string
	code  codes.Code
	words string
	call  func(context.Context) error
}

// errorOf is a call without what it answers.
func errorOf[T any](_ T, err error) error { return err }

// try sends every request and then checks that none changed anything.
func (m *swarmd) try(t *testing.T, refusals []refusal) {
	t.Helper()
	changes := m.watching(t, &api.WatchRequest{Entries: []*api.WatchRequest_WatchEntry{
		{Kind: "service", Action: everyAction}, {Kind: "secret", Action: everyAction}, {Kind: "config", Action: everyAction},
		{Kind: "cluster", Action: everyAction}, {Kind: "extension", Action: everyAction}, {Kind: "network", Action: everyAction},
	}})
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) { refused(t, r.call(m.ctx), r.code, r.words) })
	}
	m.createSecret(t, "the-first-change", "x")
	for _, event := range must(changes.Recv())(t).Events {
		if event.Object.GetSecret() == nil {
			t.Errorf("a request was refused and yet there is %v", event)
		}
	}
}

func TestASpecThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	m := start(t)
	m.create(t, service("taken", 0))
	specs := []struct {
		name   string
		code   codes.Code
		words  string
		change func(*api.ServiceSpec)
	}{
		{"no name", codes.InvalidArgument, "name", func(s *api.ServiceSpec) { s.Annotations.Name = "" }},
		{"a name with a dot", codes.InvalidArgument, "name", func(s *api.ServiceSpec) { s.Annotations.Name = "a.b" }},
		{"a long name", codes.InvalidArgument, "too long", func(s *api.ServiceSpec) { s.Annotations.Name = strings.Repeat("a", 64) }},
		{"a name that is taken", codes.AlreadyExists, "name conflicts with an existing object", func(s *api.ServiceSpec) { s.Annotations.Name = "taken" }},
		{"a name taken in other letters", codes.AlreadyExists, "name conflicts with an existing object", func(s *api.ServiceSpec) { s.Annotations.Name = "Taken" }},
		{"no runtime", codes.InvalidArgument, "runtime", func(s *api.ServiceSpec) { s.Task.Runtime = nil }},
		{"the attachment runtime", codes.Unimplemented, "attachment", func(s *api.ServiceSpec) {
			s.Task.Runtime = &api.TaskSpec_Attachment{Attachment: &api.NetworkAttachmentSpec{ContainerID: "c"}}
		}},
		{"a generic runtime without payload", codes.InvalidArgument, "payload", func(s *api.ServiceSpec) {
			s.Task.Runtime = &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "process"}}
		}},
		{"a generic runtime called container", codes.InvalidArgument, "built in", func(s *api.ServiceSpec) {
			s.Task.Runtime = &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "Container", Payload: &types.Any{TypeUrl: "x", Value: []byte("x")}}}
		}},
		{"no image", codes.InvalidArgument, "image", func(s *api.ServiceSpec) { s.Task.GetContainer().Image = "" }},
		{"an image that is none", codes.InvalidArgument, "image", func(s *api.ServiceSpec) { s.Task.GetContainer().Image = "Not An Image" }},
		{"two mounts at one place", codes.InvalidArgument, "mount", func(s *api.ServiceSpec) {
			mount := api.Mount{Type: api.MountTypeTmpfs, Target: "/tmp"}
			s.Task.GetContainer().Mounts = []api.Mount{mount, mount}
		}},
		{"a health check without time", codes.InvalidArgument, "healthcheck", func(s *api.ServiceSpec) {
			s.Task.GetContainer().Healthcheck = &api.HealthConfig{Test: []string{"CMD", "true"}, Interval: types.DurationProto(time.Microsecond)}
		}},
		{"a broken template", codes.InvalidArgument, "", func(s *api.ServiceSpec) { s.Task.GetContainer().Env = []string{"A={{.Nothing.At.All}}"} }},
		{"too little processor", codes.InvalidArgument, "nano_cpus", func(s *api.ServiceSpec) {
			s.Task.Resources = &api.ResourceRequirements{Reservations: &api.Resources{NanoCPUs: 1}}
		}},
		{"too little memory", codes.InvalidArgument, "memory_bytes", func(s *api.ServiceSpec) {
			s.Task.Resources = &api.ResourceRequirements{Limits: &api.Resources{MemoryBytes: 1 << 20}}
		}},
		{"a negative restart delay", codes.InvalidArgument, "delay", func(s *api.ServiceSpec) { s.Task.Restart.Delay = types.DurationProto(-time.Second) }},
		{"a constraint without operator", codes.InvalidArgument, "constraint", func(s *api.ServiceSpec) {
			s.Task.Placement = &api.Placement{Constraints: []string{"node.role"}}
		}},
		{"no mode", codes.InvalidArgument, "mode", func(s *api.ServiceSpec) { s.Mode = nil }},
		{"a negative number of replicas", codes.InvalidArgument, "replicas", func(s *api.ServiceSpec) { s.GetReplicated().Replicas = 1 << 63 }},
		{"a job with an update policy", codes.InvalidArgument, "job", func(s *api.ServiceSpec) {
			s.Mode, s.Update = &api.ServiceSpec_GlobalJob{GlobalJob: &api.GlobalJob{}}, &api.UpdateConfig{}
		}},
		{"a share of failures above one", codes.InvalidArgument, "max_failure_ratio", func(s *api.ServiceSpec) { s.Update = &api.UpdateConfig{MaxFailureRatio: 1.5} }},
		{"an ingress port with dnsrr", codes.InvalidArgument, "dnsrr", func(s *api.ServiceSpec) {
			s.Endpoint = &api.EndpointSpec{Mode: api.ResolutionModeDNSRoundRobin, Ports: []*api.PortConfig{{TargetPort: 80, PublishedPort: 80}}}
		}},
		{"an ingress port without an ingress network", codes.FailedPrecondition, "mode=host", func(s *api.ServiceSpec) {
			s.Endpoint = &api.EndpointSpec{Ports: []*api.PortConfig{{TargetPort: 80, PublishedPort: 80}}}
		}},
		{"a port published twice", codes.InvalidArgument, "twice", func(s *api.ServiceSpec) {
			port := &api.PortConfig{TargetPort: 80, PublishedPort: 80, PublishMode: api.PublishModeHost}
			s.Endpoint = &api.EndpointSpec{Ports: []*api.PortConfig{port, port}}
		}},
		{"a secret without a target", codes.InvalidArgument, "target", func(s *api.ServiceSpec) {
			s.Task.GetContainer().Secrets = []*api.SecretReference{{SecretID: "id", SecretName: "name"}}
		}},
		{"a secret that is not there", codes.InvalidArgument, "no-such-secret", func(s *api.ServiceSpec) {
			s.Task.GetContainer().Secrets = []*api.SecretReference{{SecretID: "id", SecretName: "no-such-secret", Target: &api.SecretReference_File{File: &api.FileTarget{Name: "f"}}}}
		}},
		{"a config that is not there", codes.InvalidArgument, "no-such-config", func(s *api.ServiceSpec) {
			s.Task.GetContainer().Configs = []*api.ConfigReference{{ConfigID: "id", ConfigName: "no-such-config", Target: &api.ConfigReference_File{File: &api.FileTarget{Name: "f"}}}}
		}},
	}
	refusals := make([]refusal, len(specs))
	for i, s := range specs {
		spec := service("web", 1)
		s.change(spec)
		refusals[i] = refusal{s.name, s.code, s.words, func(ctx context.Context) error {
			return errorOf(m.CreateService(ctx, &api.CreateServiceRequest{Spec: spec}))
		}}
	}
	m.try(t, refusals)
}

func TestARequestThatSaysTooLittleIsRefused(t *testing.T) {
	t.Parallel()
	m := start(t)
	web, cluster := m.create(t, service("web", 0)), m.cluster(t)
	version := &web.Meta.Version
	updated := func(change func(*api.ServiceSpec)) func(context.Context) error {
		spec := service("web", 0)
		change(spec)
		return func(ctx context.Context) error {
			return errorOf(m.UpdateService(ctx, &api.UpdateServiceRequest{ServiceID: web.ID, ServiceVersion: version, Spec: spec}))
		}
	}
	clusterWith := func(change func(*api.ClusterSpec)) func(context.Context) error {
		spec := cluster.Spec.Copy()
		change(spec)
		return func(ctx context.Context) error {
			return errorOf(m.UpdateCluster(ctx, &api.UpdateClusterRequest{ClusterID: cluster.ID, ClusterVersion: &cluster.Meta.Version, Spec: spec}))
		}
	}
	secret := func(name string, size int) func(context.Context) error {
		return func(ctx context.Context) error {
			return errorOf(m.CreateSecret(ctx, &api.CreateSecretRequest{Spec: &api.SecretSpec{Annotations: api.Annotations{Name: name}, Data: make([]byte, size)}}))
		}
	}
	config := func(name string, size int) func(context.Context) error {
		return func(ctx context.Context) error {
			return errorOf(m.CreateConfig(ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{Annotations: api.Annotations{Name: name}, Data: make([]byte, size)}}))
		}
	}
	m.try(t, []refusal{
		{"get service without ID", codes.InvalidArgument, "invalid argument", func(ctx context.Context) error { return errorOf(m.GetService(ctx, &api.GetServiceRequest{})) }},
		{"get unknown service", codes.NotFound, "not found", func(ctx context.Context) error {
			return errorOf(m.GetService(ctx, &api.GetServiceRequest{ServiceID: "x"}))
		}},
		{"create service without spec", codes.InvalidArgument, "spec", func(ctx context.Context) error { return errorOf(m.CreateService(ctx, &api.CreateServiceRequest{})) }},
		{"update service without version", codes.InvalidArgument, "version", func(ctx context.Context) error {
			return errorOf(m.UpdateService(ctx, &api.UpdateServiceRequest{ServiceID: web.ID, Spec: &web.Spec}))
		}},
		{"update unknown service", codes.NotFound, "not found", func(ctx context.Context) error {
			return errorOf(m.UpdateService(ctx, &api.UpdateServiceRequest{ServiceID: "x", ServiceVersion: version, Spec: &web.Spec}))
		}},
		{"rename service", codes.Unimplemented, "renamed", updated(func(s *api.ServiceSpec) { s.Annotations.Name = "other" })},
		{"change mode of service", codes.Unimplemented, "mode", updated(func(s *api.ServiceSpec) { s.Mode = &api.ServiceSpec_Global{Global: &api.GlobalService{}} })},
		{"roll back what was never updated", codes.FailedPrecondition, "previous", func(ctx context.Context) error {
			return errorOf(m.UpdateService(ctx, &api.UpdateServiceRequest{ServiceID: web.ID, ServiceVersion: version, Spec: &web.Spec, Rollback: api.UpdateServiceRequest_PREVIOUS}))
		}},
		{"remove unknown service", codes.NotFound, "not found", func(ctx context.Context) error {
			return errorOf(m.RemoveService(ctx, &api.RemoveServiceRequest{ServiceID: "x"}))
		}},

		{"get task without ID", codes.InvalidArgument, "invalid argument", func(ctx context.Context) error { return errorOf(m.GetTask(ctx, &api.GetTaskRequest{})) }},
		{"remove unknown task", codes.NotFound, "not found", func(ctx context.Context) error {
			return errorOf(m.RemoveTask(ctx, &api.RemoveTaskRequest{TaskID: "x"}))
		}},
		{"get node without ID", codes.InvalidArgument, "invalid argument", func(ctx context.Context) error { return errorOf(m.GetNode(ctx, &api.GetNodeRequest{})) }},
		{"update node without spec", codes.InvalidArgument, "spec", func(ctx context.Context) error {
			return errorOf(m.UpdateNode(ctx, &api.UpdateNodeRequest{NodeID: m.own, NodeVersion: version}))
		}},
		{"remove unknown node", codes.NotFound, "not found", func(ctx context.Context) error {
			return errorOf(m.RemoveNode(ctx, &api.RemoveNodeRequest{NodeID: "x"}))
		}},

		{"update cluster without spec", codes.InvalidArgument, "spec", func(ctx context.Context) error {
			return errorOf(m.UpdateCluster(ctx, &api.UpdateClusterRequest{ClusterID: cluster.ID, ClusterVersion: &cluster.Meta.Version}))
		}},
		{"rename cluster", codes.InvalidArgument, "default", clusterWith(func(s *api.ClusterSpec) { s.Annotations.Name = "other" })},
		{"certificates of less than an hour", codes.InvalidArgument, "node_cert_expiry", clusterWith(func(s *api.ClusterSpec) { s.CAConfig.NodeCertExpiry = types.DurationProto(time.Minute) })},
		{"heartbeats back in time", codes.InvalidArgument, "heartbeat_period", clusterWith(func(s *api.ClusterSpec) { s.Dispatcher.HeartbeatPeriod = types.DurationProto(-time.Second) })},
		{"rotate an unlock key that is not there", codes.FailedPrecondition, "unlock key", func(ctx context.Context) error {
			return errorOf(m.UpdateCluster(ctx, &api.UpdateClusterRequest{ClusterID: cluster.ID, ClusterVersion: &cluster.Meta.Version, Spec: &cluster.Spec, Rotation: api.KeyRotation{ManagerUnlockKey: true}}))
		}},
		{"a root CA that is none", codes.InvalidArgument, "certificate", clusterWith(func(s *api.ClusterSpec) { s.CAConfig.SigningCACert = []byte("none") })},

		{"secret without spec", codes.InvalidArgument, "spec", func(ctx context.Context) error { return errorOf(m.CreateSecret(ctx, &api.CreateSecretRequest{})) }},
		{"secret without name", codes.InvalidArgument, "name", secret("", 1)},
		{"secret with a bad name", codes.InvalidArgument, "name", secret("-a-", 1)},
		{"secret without data", codes.InvalidArgument, "bytes", secret("s", 0)},
		{"secret that is too large", codes.InvalidArgument, "bytes", secret("s", 512000)},
		{"update secret without spec", codes.InvalidArgument, "spec", func(ctx context.Context) error {
			return errorOf(m.UpdateSecret(ctx, &api.UpdateSecretRequest{SecretID: "x", SecretVersion: version}))
		}},
		{"remove unknown secret", codes.NotFound, "not found", func(ctx context.Context) error {
			return errorOf(m.RemoveSecret(ctx, &api.RemoveSecretRequest{SecretID: "x"}))
		}},
		{"config without data", codes.InvalidArgument, "bytes", config("c", 0)},
		{"config that is too large", codes.InvalidArgument, "bytes", config("c", 1024000)},
		{"get config without ID", codes.InvalidArgument, "invalid argument", func(ctx context.Context) error { return errorOf(m.GetConfig(ctx, &api.GetConfigRequest{})) }},

		{"extension without name", codes.InvalidArgument, "name", func(ctx context.Context) error {
			return errorOf(m.CreateExtension(ctx, &api.CreateExtensionRequest{}))
		}},
		{"resource without kind", codes.InvalidArgument, "kind", func(ctx context.Context) error {
			return errorOf(m.CreateResource(ctx, &api.CreateResourceRequest{Annotations: &api.Annotations{Name: "r"}}))
		}},
		{"health of what is not there", codes.NotFound, "unknown service", func(context.Context) error { return errorOf(m.health("Nothing")) }},
	})
}

func TestWhatLaterVersionsBuildAnswersUnimplemented(t *testing.T) {
	t.Parallel()
	m := start(t)
	logs, broker, networks := api.NewLogsClient(m.conn), api.NewLogBrokerClient(m.conn), api.NewResourceAllocatorClient(m.conn)
	m.try(t, []refusal{
		{"create network", codes.Unimplemented, "network", func(ctx context.Context) error {
			return errorOf(m.CreateNetwork(ctx, &api.CreateNetworkRequest{Spec: &api.NetworkSpec{Annotations: api.Annotations{Name: "n"}}}))
		}},
		{"create volume", codes.Unimplemented, "volume", func(ctx context.Context) error {
			return errorOf(m.CreateVolume(ctx, &api.CreateVolumeRequest{Spec: &api.VolumeSpec{
				Annotations: api.Annotations{Name: "v"}, Driver: &api.Driver{Name: "d"},
				AccessMode: &api.VolumeAccessMode{AccessType: &api.VolumeAccessMode_Mount{Mount: &api.VolumeAccessMode_MountVolume{}}},
			}}))
		}},
		{"read logs", codes.Unimplemented, "output", func(ctx context.Context) error {
			stream, err := logs.SubscribeLogs(ctx, &api.SubscribeLogsRequest{Selector: &api.LogSelector{NodeIDs: []string{m.own}}})
			if err != nil {
				return err
			}
			return errorOf(stream.Recv())
		}},
		{"listen for log subscriptions", codes.Unimplemented, "output", func(ctx context.Context) error {
			stream, err := broker.ListenSubscriptions(ctx, &api.ListenSubscriptionsRequest{})
			if err != nil {
				return err
			}
			return errorOf(stream.Recv())
		}},
		{"publish logs", codes.Unimplemented, "output", func(ctx context.Context) error {
			stream, err := broker.PublishLogs(ctx)
			if err != nil {
				return err
			}
			return errorOf(stream.CloseAndRecv())
		}},
		{"attach a container to a network", codes.Unimplemented, "network", func(ctx context.Context) error {
			return errorOf(networks.AttachNetwork(ctx, &api.AttachNetworkRequest{Config: &api.NetworkAttachmentConfig{Target: "n"}}))
		}},
		{"detach a container from a network", codes.Unimplemented, "network", func(ctx context.Context) error {
			return errorOf(networks.DetachNetwork(ctx, &api.DetachNetworkRequest{AttachmentID: "a"}))
		}},
		{"join raft through the socket", codes.Unimplemented, "", func(ctx context.Context) error {
			return errorOf(api.NewRaftMembershipClient(m.conn).Join(ctx, &api.JoinRequest{Addr: "127.0.0.1:1"}))
		}},
	})
	if got := must(m.ListNetworks(m.ctx, &api.ListNetworksRequest{}))(t).Networks; len(got) > 0 {
		t.Errorf("listed networks %v, want none", got)
	}
	if got := must(m.ListVolumes(m.ctx, &api.ListVolumesRequest{}))(t).Volumes; len(got) > 0 {
		t.Errorf("listed volumes %v, want none", got)
	}
}

func TestHealthIsAnswered(t *testing.T) {
	t.Parallel()
	m := start(t)
	for _, part := range []string{"", "ControlAPI"} {
		if got := must(m.health(part))(t); got != api.HealthCheckResponse_SERVING {
			t.Errorf("health of %q is %v, want SERVING", part, got)
		}
	}
}
