package allocator

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// Loop returns the loop, for one runner.
func Loop() loop.Any {
	return loop.Loop[key]{
		Name: "allocator",
		Keys: touched,
		All:  everything,
		Plan: plan,
	}
}

// key is a service or a task by its ID.
type key struct {
	kind store.Kind
	id   string
}

func touched(c store.Change, dirty func(key)) {
	switch is := c.New.(type) {
	case *api.Task:
		was, _ := c.Old.(*api.Task)
		if waits(is) && (was == nil || was.GetSpec() != is.GetSpec()) {
			dirty(key{store.KindTask, is.GetId()})
		}
	case *api.Service:
		was, _ := c.Old.(*api.Service)
		if was.GetSpec() != is.GetSpec() {
			dirty(key{store.KindService, is.GetId()})
		}
	}
}

func everything(s *store.Snapshot, dirty func(key)) {
	for svc := range s.Services.All() {
		dirty(key{store.KindService, svc.GetId()})
	}
	for t := range s.Tasks.All() {
		if waits(t) {
			dirty(key{store.KindTask, t.GetId()})
		}
	}
}

// waits reports whether t is to be allocated. One that is not wanted any more
// never will be.
func waits(t *api.Task) bool {
	return t.GetStatus().GetState() < api.TaskState_PENDING && t.GetDesiredState() <= api.TaskState_COMPLETE
}

func plan(env *loop.Env, s *store.Snapshot, keys []key, out *loop.Plan[key]) {
	p := &planning{env: env, s: s, out: out}
	for i, k := range keys {
		if out.Full() {
			out.Again(keys[i:]...)
			return
		}
		if k.kind == store.KindService {
			p.service(k.id)
		} else {
			p.task(k.id)
		}
	}
}

// planning is one call of plan.
type planning struct {
	env     *loop.Env
	s       *store.Snapshot
	out     *loop.Plan[key]
	pending *api.TaskStatus // shared by the tasks of this call
	of      *api.Service    // whose endpoint was made last
	made    *api.Endpoint
}

func (p *planning) service(id string) {
	svc, ok := p.s.Services.Get(id)
	if !ok {
		return
	}
	for t := range p.s.TasksOf(id) {
		if waits(t) { // what it waits for may have changed with the service
			p.out.Again(key{store.KindTask, t.GetId()})
		}
	}
	endpoint := endpointOf(svc)
	if len(endpoint.GetPorts()) == 0 {
		endpoint = nil
	}
	if proto.Equal(endpoint, svc.GetEndpoint()) {
		return
	}
	svc = model.Shallow(svc)
	svc.Endpoint = endpoint
	p.out.Update(svc)
}

func (p *planning) task(id string) {
	t, ok := p.s.Tasks.Get(id)
	if !ok || !waits(t) {
		return
	}
	svc, exists := p.s.Services.Get(t.GetServiceId())
	if t.GetServiceId() != "" && !exists {
		return // it is to be removed
	}
	if need := network(t, svc); need != "" {
		p.refuse(t, need)
		return
	}
	t = model.Shallow(t)
	if exists {
		t.ServiceAnnotations = svc.GetSpec().GetAnnotations()
		t.Endpoint = p.endpoint(svc)
		if t.GetAnnotations().GetName() == "" {
			t.Annotations = named(t)
		}
	}
	t.LogDriver = p.logDriver(t)
	if p.pending == nil {
		p.pending = &api.TaskStatus{
			State:     api.TaskState_PENDING,
			Timestamp: timestamppb.New(p.env.Now),
			Message:   "pending task scheduling",
		}
	}
	t.Status = p.pending
	p.out.Update(t)
}

// named returns t's annotations with its name in them.
func named(t *api.Task) *api.Annotations {
	annotations := &api.Annotations{}
	if t.GetAnnotations() != nil {
		annotations = model.Shallow(t.GetAnnotations())
	}
	annotations.Name = model.TaskName(t)
	return annotations
}

// refuse leaves t NEW and lets it say why.
func (p *planning) refuse(t *api.Task, need string) {
	if t.GetStatus().GetErr() == need {
		return
	}
	t = model.Shallow(t)
	t.Status = &api.TaskStatus{
		State:     api.TaskState_NEW,
		Timestamp: timestamppb.New(p.env.Now),
		Message:   "waiting for a network",
		Err:       need,
	}
	p.out.Update(t)
}

// network says which network a task needs, if any, and what to do about it.
func network(t *api.Task, svc *api.Service) string {
	for _, port := range svc.GetSpec().GetEndpoint().GetPorts() {
		if port.GetPublishMode() == api.PortConfig_INGRESS {
			return "port " + model.PortText(port) + " needs the ingress network, which does not exist yet: publish it with mode=host"
		}
	}
	networks := t.GetSpec().GetNetworks()
	if len(networks) == 0 {
		networks = svc.GetSpec().GetNetworks()
	}
	if len(networks) > 0 {
		return "network " + networks[0].GetTarget() + " cannot be used: there are no networks yet; leave it out of the service"
	}
	if t.GetSpec().GetAttachment() != nil {
		return "there are no networks yet to attach a container to"
	}
	return ""
}

// endpoint returns the endpoint of svc, the same one to all tasks of a call.
func (p *planning) endpoint(svc *api.Service) *api.Endpoint {
	if p.of != svc {
		p.of, p.made = svc, endpointOf(svc)
		if proto.Equal(p.made, svc.GetEndpoint()) {
			p.made = svc.GetEndpoint()
		}
	}
	return p.made
}

func endpointOf(svc *api.Service) *api.Endpoint {
	spec := svc.GetSpec().GetEndpoint()
	if spec == nil {
		return nil
	}
	return &api.Endpoint{Spec: spec, Ports: spec.GetPorts()}
}

// logDriver returns where t's output goes: its own choice or the cluster's.
func (p *planning) logDriver(t *api.Task) *api.Driver {
	if own := t.GetSpec().GetLogDriver(); own != nil {
		return own
	}
	cluster, _ := p.s.Clusters.Named("default")
	return cluster.GetSpec().GetTaskDefaults().GetLogDriver()
}
