package store

import (
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// Object is a pointer to one of the ten kinds of objects.
type Object interface {
	proto.Message
	GetId() string
	GetMeta() *api.Meta
}

// Kind names one of the ten kinds of objects. Zero is none of them.
type Kind uint8

// The kinds, in the order in which a snapshot is written: services come before
// tasks, so that a reader can let tasks share their service's spec.
const (
	KindNode Kind = iota + 1
	KindService
	KindTask
	KindNetwork
	KindCluster
	KindSecret
	KindConfig
	KindVolume
	KindExtension
	KindResource
)

// String returns the kind's name in lower case, as the Watch API spells it.
func (k Kind) String() string {
	switch k {
	case KindNode:
		return "node"
	case KindService:
		return "service"
	case KindTask:
		return "task"
	case KindNetwork:
		return "network"
	case KindCluster:
		return "cluster"
	case KindSecret:
		return "secret"
	case KindConfig:
		return "config"
	case KindVolume:
		return "volume"
	case KindExtension:
		return "extension"
	case KindResource:
		return "resource"
	}
	return "unknown"
}

// KindOf returns the kind of o, or zero if it is none.
func KindOf(o Object) Kind {
	switch o.(type) {
	case *api.Node:
		return KindNode
	case *api.Service:
		return KindService
	case *api.Task:
		return KindTask
	case *api.Network:
		return KindNetwork
	case *api.Cluster:
		return KindCluster
	case *api.Secret:
		return KindSecret
	case *api.Config:
		return KindConfig
	case *api.Volume:
		return KindVolume
	case *api.Extension:
		return KindExtension
	case *api.Resource:
		return KindResource
	}
	return 0
}
