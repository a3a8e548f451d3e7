package store

import "skep/api"

// What has to be said once for each kind, because the contract's messages have
// no interface in common.

// nameOf returns the name that must be unique within o's kind, "" if none must.
func nameOf(o Object) string {
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

// actionOn wraps o as the contract's log entries and our snapshots carry it.
func actionOn(kind api.StoreActionKind, o Object) *api.StoreAction {
	a := &api.StoreAction{Action: kind}
	switch o := o.(type) {
	case *api.Node:
		a.Target = &api.StoreAction_Node{Node: o}
	case *api.Service:
		a.Target = &api.StoreAction_Service{Service: o}
	case *api.Task:
		a.Target = &api.StoreAction_Task{Task: o}
	case *api.Network:
		a.Target = &api.StoreAction_Network{Network: o}
	case *api.Cluster:
		a.Target = &api.StoreAction_Cluster{Cluster: o}
	case *api.Secret:
		a.Target = &api.StoreAction_Secret{Secret: o}
	case *api.Config:
		a.Target = &api.StoreAction_Config{Config: o}
	case *api.Volume:
		a.Target = &api.StoreAction_Volume{Volume: o}
	case *api.Extension:
		a.Target = &api.StoreAction_Extension{Extension: o}
	case *api.Resource:
		a.Target = &api.StoreAction_Resource{Resource: o}
	}
	return a
}

// targetOf returns the object of an action, nil if it is of no known kind.
func targetOf(a *api.StoreAction) Object {
	switch t := a.GetTarget().(type) {
	case *api.StoreAction_Node:
		return t.Node
	case *api.StoreAction_Service:
		return t.Service
	case *api.StoreAction_Task:
		return t.Task
	case *api.StoreAction_Network:
		return t.Network
	case *api.StoreAction_Cluster:
		return t.Cluster
	case *api.StoreAction_Secret:
		return t.Secret
	case *api.StoreAction_Config:
		return t.Config
	case *api.StoreAction_Volume:
		return t.Volume
	case *api.StoreAction_Extension:
		return t.Extension
	case *api.StoreAction_Resource:
		return t.Resource
	}
	return nil
}

// identity returns an object of o's kind that has its ID and nothing else: all
// that the removal of o has to say.
func identity(kind Kind, id string) Object {
	switch kind {
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
