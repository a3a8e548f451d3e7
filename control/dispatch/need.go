package dispatch

import (
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
	"skep/store"
)

// need is a secret or config that a task refers to.
type need struct {
	kind store.Kind // KindSecret or KindConfig
	id   string
}

// needsOf calls yield for each secret and config that task refers to. One that
// is referred to twice is told twice.
func needsOf(task *api.Task, yield func(need)) {
	for secret := range model.SecretsOf(task.GetSpec()) {
		yield(need{store.KindSecret, secret.ID})
	}
	for config := range model.ConfigsOf(task.GetSpec()) {
		yield(need{store.KindConfig, config.ID})
	}
}

// in returns the object in snapshot, nil if it does not exist.
func (n need) in(snapshot *store.Snapshot) proto.Message {
	switch n.kind {
	case store.KindSecret:
		if secret, ok := snapshot.Secrets.Get(n.id); ok {
			return secret
		}
	case store.KindConfig:
		if config, ok := snapshot.Configs.Get(n.id); ok {
			return config
		}
	}
	return nil
}

// update is the change that gives object to the worker.
func (n need) update(object proto.Message) *api.AssignmentChange {
	change := &api.AssignmentChange{Assignment: &api.Assignment{}}
	switch object := object.(type) {
	case *api.Secret:
		change.Assignment.Item = &api.Assignment_Secret{Secret: object}
	case *api.Config:
		change.Assignment.Item = &api.Assignment_Config{Config: object}
	}
	return change
}

// remove is the change that takes it back.
func (n need) remove() *api.AssignmentChange {
	change := &api.AssignmentChange{Assignment: &api.Assignment{}, Action: api.AssignmentChange_REMOVE}
	switch n.kind {
	case store.KindSecret:
		change.Assignment.Item = &api.Assignment_Secret{Secret: &api.Secret{Id: n.id}}
	case store.KindConfig:
		change.Assignment.Item = &api.Assignment_Config{Config: &api.Config{Id: n.id}}
	}
	return change
}

// samePayload reports whether two versions of a secret or config are the same to a worker.
func samePayload(a, b proto.Message) bool {
	if a == b {
		return true
	}
	switch a := a.(type) {
	case *api.Secret:
		b, ok := b.(*api.Secret)
		return ok && a.GetInternal() == b.GetInternal() && same(a.GetSpec(), b.GetSpec())
	case *api.Config:
		b, ok := b.(*api.Config)
		return ok && same(a.GetSpec(), b.GetSpec())
	}
	return false
}

// sameAssignment reports whether two versions of a task differ in nothing but
// what the worker itself reports, and the store's bookkeeping.
func sameAssignment(a, b *api.Task) bool {
	return a == b || a.GetDesiredState() == b.GetDesiredState() &&
		a.GetId() == b.GetId() &&
		a.GetServiceId() == b.GetServiceId() &&
		a.GetSlot() == b.GetSlot() &&
		a.GetNodeId() == b.GetNodeId() &&
		same(a.GetSpec(), b.GetSpec()) &&
		same(a.GetSpecVersion(), b.GetSpecVersion()) &&
		same(a.GetAnnotations(), b.GetAnnotations()) &&
		same(a.GetServiceAnnotations(), b.GetServiceAnnotations()) &&
		sameAll(a.GetNetworks(), b.GetNetworks()) &&
		same(a.GetEndpoint(), b.GetEndpoint()) &&
		same(a.GetLogDriver(), b.GetLogDriver()) &&
		sameAll(a.GetAssignedGenericResources(), b.GetAssignedGenericResources()) &&
		same(a.GetJobIteration(), b.GetJobIteration()) &&
		sameAll(a.GetVolumes(), b.GetVolumes())
}

// same compares messages that are mostly one shared object.
func same[M interface {
	comparable
	proto.Message
}](a, b M) bool {
	return a == b || proto.Equal(a, b)
}

func sameAll[M interface {
	comparable
	proto.Message
}](a, b []M) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !same(a[i], b[i]) {
			return false
		}
	}
	return true
}
