package store

import (
	"google.golang.org/protobuf/encoding/protowire"

	"skep/api"
)

// What has to be said once for each kind, because the contract's messages have
// no interface in common.

// NameOf returns the name that must be unique within o's kind, "" for nodes and tasks, of
// which none must.
func NameOf(o Object) string {
	switch o := o.(type) {
	case *api.Service:
		return o.GetSpec().GetAnnotations().GetName()
	case *api.Network:
		return o.GetSpec().GetAnnotations().GetName()
	case *api.Cluster:
		return o.GetSpec().GetAnnotations().GetName()
	case *api.Secret:
		return o.GetSpec().GetAnnotations().GetName()
	case *api.Config:
		return o.GetSpec().GetAnnotations().GetName()
	case *api.Volume:
		return o.GetSpec().GetAnnotations().GetName()
	case *api.Extension:
		return o.GetAnnotations().GetName()
	case *api.Resource:
		return o.GetAnnotations().GetName()
	}
	return ""
}

func setMeta(o Object, m *api.Meta) {
	switch o := o.(type) {
	case *api.Node:
		o.Meta = m
	case *api.Service:
		o.Meta = m
	case *api.Task:
		o.Meta = m
	case *api.Network:
		o.Meta = m
	case *api.Cluster:
		o.Meta = m
	case *api.Secret:
		o.Meta = m
	case *api.Config:
		o.Meta = m
	case *api.Volume:
		o.Meta = m
	case *api.Extension:
		o.Meta = m
	case *api.Resource:
		o.Meta = m
	}
}

// target returns the number of the kind's field in the contract's StoreAction.
func (k Kind) target() protowire.Number {
	switch k {
	case KindNode:
		return 2
	case KindService:
		return 3
	case KindTask:
		return 4
	case KindNetwork:
		return 5
	case KindCluster:
		return 6
	case KindSecret:
		return 7
	case KindResource:
		return 8
	case KindExtension:
		return 9
	case KindConfig:
		return 10
	case KindVolume:
		return 11
	}
	return 0
}

// kindOfTarget returns the kind whose target is num, or zero.
func kindOfTarget(num protowire.Number) Kind {
	for k := KindNode; k <= KindResource; k++ {
		if k.target() == num {
			return k
		}
	}
	return 0
}

// object returns a new object of the kind that has an ID and nothing else, which
// is all that a removal has to say.
func (k Kind) object(id string) Object {
	switch k {
	case KindNode:
		return &api.Node{Id: id}
	case KindService:
		return &api.Service{Id: id}
	case KindTask:
		return &api.Task{Id: id}
	case KindNetwork:
		return &api.Network{Id: id}
	case KindCluster:
		return &api.Cluster{Id: id}
	case KindSecret:
		return &api.Secret{Id: id}
	case KindConfig:
		return &api.Config{Id: id}
	case KindVolume:
		return &api.Volume{Id: id}
	case KindExtension:
		return &api.Extension{Id: id}
	case KindResource:
		return &api.Resource{Id: id}
	}
	return nil
}
