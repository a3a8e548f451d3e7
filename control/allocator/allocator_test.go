package allocator_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/control/allocator"
	"skep/control/orchestrator"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

func cluster() *looptest.Cluster {
	return looptest.New(orchestrator.Loop(), allocator.Loop())
}

func TestATaskGetsWhatItsServiceSays(t *testing.T) {
	t.Parallel()
	c := cluster()
	c.Draw(t, "service web replicas=2 port=8080 port=0")
	c.Settle(t)
	svc, _ := c.Store.Read().Services.Get("web")
	if len(svc.GetEndpoint().GetPorts()) != 2 || !proto.Equal(svc.GetEndpoint().GetSpec(), svc.GetSpec().GetEndpoint()) {
		t.Errorf("the service has endpoint %v, want the one of its spec", svc.GetEndpoint())
	}
	for _, task := range c.Tasks() {
		if got := task.GetStatus().GetState(); got != api.TaskState_PENDING {
			t.Errorf("%s is %s, want PENDING", task.GetId(), got)
		}
		if got, want := task.GetAnnotations().GetName(), "web."+task.GetId()[1:]+"."+task.GetId(); got != want {
			t.Errorf("a task is named %q, want %q", got, want)
		}
		if task.GetServiceAnnotations() != svc.GetSpec().GetAnnotations() {
			t.Errorf("%s does not share the annotations of its service", task.GetId())
		}
		if task.GetEndpoint() != svc.GetEndpoint() {
			t.Errorf("%s does not share the endpoint of its service", task.GetId())
		}
		ports := task.GetEndpoint().GetPorts()
		if len(ports) != 2 || ports[0].GetPublishedPort() != 8080 || ports[1].GetPublishedPort() != 0 {
			t.Errorf("%s has ports %v, want those of the service, 0 still to be chosen", task.GetId(), ports)
		}
	}
}

func TestATaskLogsWhereItsServiceOrElseTheClusterSays(t *testing.T) {
	t.Parallel()
	c := cluster()
	c.Do(t, func(tx *store.Tx) error {
		return tx.Create(&api.Cluster{Id: "c", Spec: &api.ClusterSpec{
			Annotations:  &api.Annotations{Name: "default"},
			TaskDefaults: &api.TaskDefaults{LogDriver: &api.Driver{Name: "syslog"}},
		}})
	})
	c.Draw(t, "service a log=gelf\nservice b")
	c.Settle(t)
	for i, want := range []string{"gelf", "syslog"} {
		if got := c.Tasks()[i].GetLogDriver().GetName(); got != want {
			t.Errorf("task %d logs to %q, want %q", i, got, want)
		}
	}
}

func TestATaskThatNeedsANetworkStaysNewAndSaysSo(t *testing.T) {
	t.Parallel()
	for service, want := range map[string]string{
		"service web port=ingress:80":           "mode=host",
		"service web network=backend":           "network backend",
		"service web port=8080 port=ingress:81": "81:80/tcp",
	} {
		c := cluster()
		c.Draw(t, service)
		c.Settle(t)
		task := c.Tasks()[0]
		if s := task.GetStatus(); s.GetState() != api.TaskState_NEW || !strings.Contains(s.GetErr(), want) {
			t.Errorf("%s: got %s %q, want NEW with %q", service, s.GetState(), s.GetErr(), want)
		}
	}
}

func TestATaskGoesOnWhenItsServiceNeedsNoNetworkAnyMore(t *testing.T) {
	t.Parallel()
	c := cluster()
	c.Draw(t, "service web port=ingress:80")
	c.Settle(t)
	c.Do(t, func(tx *store.Tx) error {
		svc, _ := tx.Services.Get("web")
		svc = model.Shallow(svc)
		svc.Spec = model.Shallow(svc.GetSpec())
		svc.Spec.Endpoint = nil
		svc.SpecVersion = &api.Version{Index: svc.GetMeta().GetVersion().GetIndex()}
		return tx.Update(svc)
	})
	c.Settle(t)
	if s := c.Tasks()[0].GetStatus(); s.GetState() != api.TaskState_PENDING || s.GetErr() != "" {
		t.Errorf("got %s %q, want PENDING", s.GetState(), s.GetErr())
	}
	if svc, _ := c.Store.Read().Services.Get("web"); svc.GetEndpoint() != nil {
		t.Errorf("the service still has endpoint %v", svc.GetEndpoint())
	}
}

func TestAnAttachmentStaysNewWithoutAService(t *testing.T) {
	t.Parallel()
	c := cluster()
	c.Do(t, func(tx *store.Tx) error {
		return tx.Create(&api.Task{Id: "x", Status: &api.TaskStatus{}, DesiredState: api.TaskState_RUNNING,
			Spec: &api.TaskSpec{Runtime: &api.TaskSpec_Attachment{Attachment: &api.NetworkAttachmentSpec{}}}})
	})
	c.Settle(t)
	if s := c.Tasks()[0].GetStatus(); s.GetState() != api.TaskState_NEW || s.GetErr() == "" {
		t.Errorf("got %s %q, want NEW with a reason", s.GetState(), s.GetErr())
	}
}
