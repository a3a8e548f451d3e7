package model

import (
	"iter"

	"skep/api"
)

// Reference is a secret or config that a task reads. Name is empty where only
// the ID is said, as in resource references.
type Reference struct{ ID, Name string }

// SecretsOf lists the secrets that a task refers to: those of its container and
// those among its resource references. One may be listed more than once.
func SecretsOf(spec *api.TaskSpec) iter.Seq[Reference] {
	return func(yield func(Reference) bool) {
		for _, s := range spec.GetContainer().GetSecrets() {
			if !yield(Reference{s.GetSecretId(), s.GetSecretName()}) {
				return
			}
		}
		resources(spec, api.ResourceType_SECRET, yield)
	}
}

// ConfigsOf lists the configs that a task refers to, as SecretsOf does secrets.
func ConfigsOf(spec *api.TaskSpec) iter.Seq[Reference] {
	return func(yield func(Reference) bool) {
		for _, c := range spec.GetContainer().GetConfigs() {
			if !yield(Reference{c.GetConfigId(), c.GetConfigName()}) {
				return
			}
		}
		resources(spec, api.ResourceType_CONFIG, yield)
	}
}

func resources(spec *api.TaskSpec, of api.ResourceType, yield func(Reference) bool) {
	for _, r := range spec.GetResourceReferences() {
		if r.GetResourceType() == of && !yield(Reference{ID: r.GetResourceId()}) {
			return
		}
	}
}
