package manager

import (
	"testing"

	"github.com/moby/swarmkit/v2/api"
	"google.golang.org/grpc/codes"
)

// ofServices is a watch of all that happens to services.
func ofServices() []*api.WatchRequest_WatchEntry {
	return []*api.WatchRequest_WatchEntry{{Kind: "service", Action: everyAction}}
}

func TestAWatchTellsOfEachChange(t *testing.T) {
	t.Parallel()
	m := start(t)
	changes := m.watching(t, &api.WatchRequest{Entries: ofServices(), IncludeOldObject: true})
	next := func(want api.WatchActionKind) *api.WatchMessage_Event {
		t.Helper()
		message := must(changes.Recv())(t)
		if len(message.Events) != 1 || message.Events[0].Action != want || message.Version == nil {
			t.Fatalf("told %v, want one event of action %v and a version", message, want)
		}
		return message.Events[0]
	}
	web := m.create(t, service("web", 0))
	if e := next(api.WatchActionKindCreate); e.Object.GetService().GetID() != web.ID {
		t.Errorf("told of the creation of %v, want %s", e.Object, web.ID)
	}
	m.update(t, web.ID, func(s *api.ServiceSpec) { s.Annotations.Labels["k"] = "v" })
	e := next(api.WatchActionKindUpdate)
	if _, had := e.OldObject.GetService().Spec.Annotations.Labels["k"]; had || e.Object.GetService().Spec.Annotations.Labels["k"] != "v" {
		t.Errorf("told of an update from %v to %v", e.OldObject, e.Object)
	}
	must(m.RemoveService(m.ctx, &api.RemoveServiceRequest{ServiceID: web.ID}))(t)
	if e := next(api.WatchActionKindRemove); e.Object.GetService().GetID() != web.ID {
		t.Errorf("told of the removal of %v, want %s", e.Object, web.ID)
	}
}

func TestAWatchResumesWhereItWas(t *testing.T) {
	t.Parallel()
	m := start(t)
	changes := m.watching(t, &api.WatchRequest{Entries: ofServices()})
	m.create(t, service("first", 0))
	seen := must(changes.Recv())(t).Version
	second, third := m.create(t, service("second", 0)), m.create(t, service("third", 0))
	again := m.watching(t, &api.WatchRequest{Entries: ofServices(), ResumeFrom: seen})
	for _, want := range []*api.Service{second, third} {
		if told := must(again.Recv())(t).Events; len(told) != 1 || told[0].Object.GetService().GetID() != want.ID {
			t.Errorf("after resuming told of %v, want %s alone", told, want.Spec.Annotations.Name)
		}
	}
	fourth := m.create(t, service("fourth", 0))
	if told := must(again.Recv())(t).Events; len(told) != 1 || told[0].Object.GetService().GetID() != fourth.ID {
		t.Errorf("after catching up told of %v, want the fourth", told)
	}
}

func TestAWatchIsToldWhatItAskedFor(t *testing.T) {
	t.Parallel()
	m := start(t)
	changes := m.watching(t, &api.WatchRequest{Entries: []*api.WatchRequest_WatchEntry{
		{Kind: "service", Action: api.WatchActionKindRemove, Filters: []*api.SelectBy{{By: &api.SelectBy_NamePrefix{NamePrefix: "a-"}}}},
		{Kind: "secret", Action: api.WatchActionKindCreate},
	}})
	a, b := m.create(t, service("a-1", 0)), m.create(t, service("b-1", 0))
	must(m.RemoveService(m.ctx, &api.RemoveServiceRequest{ServiceID: b.ID}))(t)
	must(m.RemoveService(m.ctx, &api.RemoveServiceRequest{ServiceID: a.ID}))(t)
	secret := m.createSecret(t, "password", "hunter2")
	if told := must(changes.Recv())(t).Events; len(told) != 1 || told[0].Object.GetService().GetID() != a.ID {
		t.Errorf("told of %v, want the removal of a-1", told)
	}
	if told := must(changes.Recv())(t).Events; len(told) != 1 || told[0].Object.GetSecret().GetID() != secret.ID || len(told[0].Object.GetSecret().Spec.Data) > 0 {
		t.Errorf("told of %v, want the creation of the secret, without its data", told)
	}
	stream := must(m.watch.Watch(m.ctx, &api.WatchRequest{Entries: []*api.WatchRequest_WatchEntry{{Kind: "service"}}}))(t)
	_, err := stream.Recv()
	refused(t, err, codes.InvalidArgument, "action")
}
