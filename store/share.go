package store

import (
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// share lets an object that was just decoded have in common with the state what
// is equal: a task its spec with its service or its former self, and the strings
// that name them. a's object is not yet stored, so it may still be changed.
func (s *Snapshot) share(old Object, a decoded) {
	switch new := a.object.(type) {
	case *api.Task:
		was, _ := old.(*api.Task)
		service, _ := s.Services.Get(new.ServiceId)
		if a.spec != nil {
			new.Spec = known(new.Spec, was.GetSpec(), service.GetSpec().GetTask(), service.GetPreviousSpec().GetTask())
		}
		if a.service != nil {
			new.ServiceAnnotations = known(new.ServiceAnnotations, was.GetServiceAnnotations(), service.GetSpec().GetAnnotations())
		}
		new.Annotations = known(new.Annotations, was.GetAnnotations())
		new.Endpoint = known(new.Endpoint, was.GetEndpoint())
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
func known[M interface {
	proto.Message
	comparable
}](m M, candidates ...M) M {
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
