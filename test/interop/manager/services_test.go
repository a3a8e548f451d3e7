package manager

import (
	"testing"

	"github.com/gogo/protobuf/proto"
	"github.com/gogo/protobuf/types"
	"github.com/moby/swarmkit/v2/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// service is a spec of replicas containers.
func service(name string, replicas uint64) *api.ServiceSpec {
	return &api.ServiceSpec{
		Annotations: api.Annotations{Name: name, Labels: map[string]string{"made-by": "test"}},
		Task: api.TaskSpec{
			Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "example.com/web:1", Command: []string{"serve"}}},
			Restart: &api.RestartPolicy{Condition: api.RestartOnAny, Delay: &types.Duration{}},
		},
		Mode: &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: replicas}},
	}
}

func (m *swarmd) create(t *testing.T, spec *api.ServiceSpec) *api.Service {
	t.Helper()
	return must(m.CreateService(m.ctx, &api.CreateServiceRequest{Spec: spec}))(t).Service
}

// update changes a service as it is now.
func (m *swarmd) update(t *testing.T, id string, change func(*api.ServiceSpec)) *api.Service {
	t.Helper()
	now := must(m.GetService(m.ctx, &api.GetServiceRequest{ServiceID: id}))(t).Service
	change(&now.Spec)
	return must(m.UpdateService(m.ctx, &api.UpdateServiceRequest{
		ServiceID: id, ServiceVersion: &now.Meta.Version, Spec: &now.Spec,
	}))(t).Service
}

func TestAServiceIsCreatedUpdatedAndRemoved(t *testing.T) {
	t.Parallel()
	m := start(t)
	created := m.create(t, service("web", 2))
	if len(created.ID) != 25 || created.Meta.Version.Index == 0 || created.SpecVersion == nil {
		t.Errorf("created %v: want an ID of 25 characters and versions", created)
	}
	if got := must(m.GetService(m.ctx, &api.GetServiceRequest{ServiceID: created.ID}))(t).Service; !proto.Equal(got, created) {
		t.Errorf("read %v, created %v", got, created)
	}
	defaults := must(m.GetService(m.ctx, &api.GetServiceRequest{ServiceID: created.ID, InsertDefaults: true}))(t).Service
	if defaults.Spec.Task.GetContainer().StopGracePeriod == nil || defaults.Spec.Update == nil {
		t.Errorf("with defaults the spec is %v, want a grace period and an update policy", defaults.Spec)
	}

	updated := m.update(t, created.ID, func(s *api.ServiceSpec) { s.Task.ForceUpdate++ })
	if updated.PreviousSpec == nil || updated.PreviousSpec.Task.ForceUpdate != 0 || updated.Spec.Task.ForceUpdate != 1 {
		t.Errorf("updated: previous spec %v, spec %v", updated.PreviousSpec, updated.Spec)
	}
	if updated.Meta.Version.Index <= created.Meta.Version.Index {
		t.Errorf("version %d after an update, %d before", updated.Meta.Version.Index, created.Meta.Version.Index)
	}
	// Who read it before must not overwrite that.
	_, err := m.UpdateService(m.ctx, &api.UpdateServiceRequest{
		ServiceID: created.ID, ServiceVersion: &created.Meta.Version, Spec: service("web", 5),
	})
	refused(t, err, codes.Aborted, "update out of sequence")

	back := must(m.UpdateService(m.ctx, &api.UpdateServiceRequest{
		ServiceID: created.ID, ServiceVersion: &updated.Meta.Version, Spec: &updated.Spec, Rollback: api.UpdateServiceRequest_PREVIOUS,
	}))(t).Service
	if back.Spec.Task.ForceUpdate != 0 || back.UpdateStatus == nil || back.UpdateStatus.State != api.UpdateStatus_ROLLBACK_STARTED {
		t.Errorf("rolled back: spec %v, update status %v", back.Spec, back.UpdateStatus)
	}

	must(m.RemoveService(m.ctx, &api.RemoveServiceRequest{ServiceID: created.ID}))(t)
	_, err = m.GetService(m.ctx, &api.GetServiceRequest{ServiceID: created.ID})
	refused(t, err, codes.NotFound, created.ID)
	m.until(t, "the tasks of a removed service that never ran are gone", func() bool { return len(m.tasks(t, created.ID)) == 0 })
}

func TestServicesAreListedByEveryFilter(t *testing.T) {
	t.Parallel()
	m := start(t)
	web, api1 := m.create(t, service("web", 0)), m.create(t, service("api-1", 0))
	labelled := service("api-2", 0)
	labelled.Annotations.Labels = map[string]string{"tier": "back"}
	api2 := m.create(t, labelled)
	generic := service("proc", 0)
	generic.Task.Runtime = &api.TaskSpec_Generic{Generic: processRuntime("/bin/true")}
	proc := m.create(t, generic)
	for _, test := range []struct {
		name    string
		filters *api.ListServicesRequest_Filters
		want    []*api.Service
	}{
		{"none", nil, []*api.Service{web, api1, api2, proc}},
		{"names", &api.ListServicesRequest_Filters{Names: []string{"web", "api-2"}}, []*api.Service{web, api2}},
		{"a name in other letters", &api.ListServicesRequest_Filters{Names: []string{"WEB"}}, nil},
		{"a prefix of names", &api.ListServicesRequest_Filters{NamePrefixes: []string{"api"}}, []*api.Service{api1, api2}},
		{"an ID", &api.ListServicesRequest_Filters{IDPrefixes: []string{web.ID}}, []*api.Service{web}},
		{"a label", &api.ListServicesRequest_Filters{Labels: map[string]string{"tier": "back"}}, []*api.Service{api2}},
		{"a label with any value", &api.ListServicesRequest_Filters{Labels: map[string]string{"made-by": ""}}, []*api.Service{web, api1, proc}},
		{"a label and a name", &api.ListServicesRequest_Filters{Names: []string{"web"}, Labels: map[string]string{"tier": ""}}, nil},
		{"the container runtime", &api.ListServicesRequest_Filters{Runtimes: []string{"container"}}, []*api.Service{web, api1, api2}},
		{"a generic runtime", &api.ListServicesRequest_Filters{Runtimes: []string{"process"}}, []*api.Service{proc}},
	} {
		got := must(m.ListServices(m.ctx, &api.ListServicesRequest{Filters: test.filters}))(t).Services
		if !sameIDs(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// processRuntime is a process as our executor takes it, written as bytes: the
// library does not know the message.
func processRuntime(program string) *api.GenericRuntimeSpec {
	value := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), program)
	return &api.GenericRuntimeSpec{Kind: "process", Payload: &types.Any{TypeUrl: "type.googleapis.com/skep.v1.ProcessSpec", Value: value}}
}

// sameIDs reports whether both hold the same objects, in any order.
func sameIDs[T interface{ GetID() string }](got, want []T) bool {
	ids := map[string]bool{}
	for _, o := range want {
		ids[o.GetID()] = true
	}
	for _, o := range got {
		if !ids[o.GetID()] {
			return false
		}
	}
	return len(got) == len(want)
}

func TestATaskThatFitsNowhereSaysWhy(t *testing.T) {
	t.Parallel()
	m := start(t)
	spec := service("picky", 2)
	spec.Task.Placement = &api.Placement{Constraints: []string{"node.labels.zone==nowhere"}}
	picky := m.create(t, spec)
	m.until(t, "both tasks are pending with a reason", func() bool {
		tasks := m.tasks(t, picky.ID)
		for _, task := range tasks {
			if task.Status.State != api.TaskStatePending || task.Status.Err == "" {
				return false
			}
		}
		return len(tasks) == 2
	})
	statuses := must(m.ListServiceStatuses(m.ctx, &api.ListServiceStatusesRequest{Services: []string{"unknown", picky.ID}}))(t).Statuses
	if len(statuses) != 2 || statuses[0].DesiredTasks != 0 || statuses[1].ServiceID != picky.ID || statuses[1].DesiredTasks != 2 || statuses[1].RunningTasks != 0 {
		t.Errorf("got statuses %v, want zeros for the unknown service and 0 of 2", statuses)
	}

	task := m.tasks(t, picky.ID)[0]
	if got := must(m.GetTask(m.ctx, &api.GetTaskRequest{TaskID: task.ID}))(t).Task; got.ServiceID != picky.ID || got.Slot == 0 {
		t.Errorf("got task %v, want one of %s with a slot", got, picky.ID)
	}
	must(m.RemoveTask(m.ctx, &api.RemoveTaskRequest{TaskID: task.ID}))(t)
	m.until(t, "another task has taken the slot of the removed one", func() bool {
		tasks := m.tasks(t, picky.ID)
		return len(tasks) == 2 && tasks[0].ID != task.ID && tasks[1].ID != task.ID
	})
}
