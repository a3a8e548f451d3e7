package agent

import (
	"fmt"
	"iter"
	"sync"

	"google.golang.org/protobuf/proto"

	"skep/agent/exec"
	"skep/api"
	"skep/model"
	"skep/template"
)

// vault holds the secrets and configs of the node, in memory only.
type vault struct {
	mu       sync.Mutex
	secrets  map[string]*api.Secret
	configs  map[string]*api.Config
	complete bool // the managers have told us all there is
	node     template.Node
}

// surelyWhole is the size of changes in bytes that a manager does not split. It
// begins another message when the next change would make one of 4 MiB, and no
// change is larger than what the log of the managers takes at once, 1.5 MiB. Where
// the last part is larger, what is missing counts as still to come until the next
// small one.
const surelyWhole = 2 << 20

// last reports whether no part of the same assignment follows these changes.
func last(changes []*api.AssignmentChange) bool {
	size := 0
	for _, change := range changes {
		size += proto.Size(change)
	}
	return size < surelyWhole
}

// replace puts what a complete assignment holds in the place of everything, at
// once: a task that reads meanwhile misses nothing that stays. More may follow if
// this is not the last part.
func (v *vault) replace(secrets map[string]*api.Secret, configs map[string]*api.Config, last bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets, v.configs, v.complete = secrets, configs, last
}

// change stores what is given, and deletes an ID for which that is nil. A last
// part completes what replace began.
func (v *vault) change(secrets map[string]*api.Secret, configs map[string]*api.Config, last bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.secrets, secrets)
	change(&v.configs, configs)
	v.complete = v.complete || last
}

func change[T any](stored *map[string]*T, changes map[string]*T) {
	for id, value := range changes {
		if value == nil {
			delete(*stored, id)
			continue
		}
		if *stored == nil {
			*stored = make(map[string]*T)
		}
		(*stored)[id] = value
	}
}

func (v *vault) setNode(node template.Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.node = node
}

// scope is what one task may see of the vault.
type scope struct {
	vault *vault
	task  *api.Task
}

var _ exec.Dependencies = scope{}

func (s scope) Node() template.Node {
	s.vault.mu.Lock()
	defer s.vault.mu.Unlock()
	return s.vault.node
}

func (s scope) Secret(id string) (*api.Secret, error) {
	return find(s, "secret", id, model.SecretsOf(s.task.GetSpec()), func(v *vault) map[string]*api.Secret { return v.secrets })
}

func (s scope) Config(id string) (*api.Config, error) {
	return find(s, "config", id, model.ConfigsOf(s.task.GetSpec()), func(v *vault) map[string]*api.Config { return v.configs })
}

func find[T any](s scope, kind, id string, referred iter.Seq[model.Reference], of func(*vault) map[string]*T) (*T, error) {
	allowed := false
	for reference := range referred {
		allowed = allowed || reference.ID == id
	}
	if !allowed {
		return nil, fmt.Errorf("%s %s is not one that task %s refers to", kind, id, s.task.GetId())
	}
	s.vault.mu.Lock()
	defer s.vault.mu.Unlock()
	// A value made for this task alone goes first.
	for _, key := range []string{id + "." + s.task.GetId(), id} {
		if value := of(s.vault)[key]; value != nil {
			return value, nil
		}
	}
	err := fmt.Errorf("%s %s not found: the managers have not sent it", kind, id)
	if !s.vault.complete {
		return nil, exec.Temporary(err)
	}
	return nil, err
}
