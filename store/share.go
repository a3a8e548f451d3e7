package store

import (
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// share lets an object that was just decoded have in common with the state what
// is equal: a task its spec with its service or its former self, and the strings
// that name them. a is complete; its object is not yet stored, so it may still be
// changed.
func (s *Snapshot) share(old Object, a decoded) {
	switch new := a.object.(type) {
	case *api.Task:
		was, _ := old.(*api.Task)
		service, _ := s.Services.Get(new.ServiceId)
		if a.spec != nil {
			new.Spec = a.spec.settle(was.GetSpec(), service.GetSpec().GetTask(), service.GetPreviousSpec().GetTask())
		}
		if a.service != nil {
			new.ServiceAnnotations = a.service.settle(was.GetServiceAnnotations(), service.GetSpec().GetAnnotations())
		}
		new.Annotations = knownName(new.Annotations, was.GetAnnotations())
		new.Endpoint = known(new.Endpoint, was.GetEndpoint())
		new.SpecVersion = knownVersion(new.SpecVersion, was.GetSpecVersion(), service.GetSpecVersion())
		if was != nil {
			new.Id = was.Id
		}
		if service != nil {
			new.ServiceId = service.Id
		}
		if node, ok := s.Nodes.Get(new.NodeId); ok {
			new.NodeId = node.Id
		}
	case *api.Service:
		was, _ := old.(*api.Service)
		new.Spec = known(new.Spec, was.GetSpec())
		new.PreviousSpec = known(new.PreviousSpec, was.GetPreviousSpec(), was.GetSpec())
	case *api.Node:
		was, _ := old.(*api.Node)
		new.Spec = known(new.Spec, was.GetSpec())
		new.Description = known(new.Description, was.GetDescription())
	}
}

// known returns the first candidate that equals m, or else m.
func known[M sharable](m M, candidates ...M) M {
	var none M
	if m == none {
		return m
	}
	for _, c := range candidates {
		if c != none && proto.Equal(m, c) {
			return c
		}
	}
	return m
}

// knownName is known for annotations that are most often a name and nothing else.
func knownName(m, was *api.Annotations) *api.Annotations {
	alone := func(a *api.Annotations) bool {
		return a != nil && len(a.Labels) == 0 && len(a.Indices) == 0 && len(a.ProtoReflect().GetUnknown()) == 0
	}
	if alone(m) && alone(was) {
		if m.Name == was.Name {
			return was
		}
		return m
	}
	return known(m, was)
}

// knownVersion is known for versions.
func knownVersion(m *api.Version, candidates ...*api.Version) *api.Version {
	for _, c := range candidates {
		if m != nil && c != nil && m.Index == c.Index && len(m.ProtoReflect().GetUnknown()) == 0 && len(c.ProtoReflect().GetUnknown()) == 0 {
			return c
		}
	}
	return m
}
