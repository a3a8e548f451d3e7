package watchapi

import (
	"strings"

	"skep/api"
	"skep/model"
	"skep/store"
)

// filter reports whether an object of the entry's kind is meant.
type filter func(store.Object) bool

// parseFilters understands the filters of one entry. Two that are about the same
// property are Invalid: together they could only contradict each other.
func parseFilters(kind store.Kind, filters []*api.SelectBy) ([]filter, error) {
	parsed := make([]filter, 0, len(filters))
	seen := make(map[string]bool, len(filters))
	for _, f := range filters {
		property, holds := understand(kind, f)
		switch {
		case property == "":
			return nil, model.Errorf(model.Invalid, "a filter is empty: it selects nothing; set what it selects by, or leave it out")
		case holds == nil:
			return nil, model.Errorf(model.Invalid, "a %s cannot be selected by %s; leave that filter out", kind, property)
		case seen[property]:
			return nil, model.Errorf(model.Invalid, "two filters select by %s: both must hold, so one of them is too many; leave one out", property)
		}
		seen[property] = true
		parsed = append(parsed, holds)
	}
	return parsed, nil
}

// understand returns which property a filter is about ("" for an empty one), and
// the filter, nil if objects of this kind do not have that property.
func understand(kind store.Kind, f *api.SelectBy) (property string, holds filter) {
	switch by := f.GetBy().(type) {
	case *api.SelectBy_Id:
		return "id", func(o store.Object) bool { return o.GetId() == by.Id }
	case *api.SelectBy_IdPrefix:
		return "id", func(o store.Object) bool { return strings.HasPrefix(o.GetId(), by.IdPrefix) }
	case *api.SelectBy_Name:
		return "name", func(o store.Object) bool { return nameOf(o) == by.Name }
	case *api.SelectBy_NamePrefix:
		return "name", func(o store.Object) bool { return strings.HasPrefix(nameOf(o), by.NamePrefix) }
	case *api.SelectBy_Custom:
		return "custom index", func(o store.Object) bool {
			return indexed(o, by.Custom.GetIndex(), func(v string) bool { return v == by.Custom.GetValue() })
		}
	case *api.SelectBy_CustomPrefix:
		return "custom index", func(o store.Object) bool {
			return indexed(o, by.CustomPrefix.GetIndex(), func(v string) bool { return strings.HasPrefix(v, by.CustomPrefix.GetValue()) })
		}
	case *api.SelectBy_ServiceId:
		return "service", on(kind, func(t *api.Task) bool { return t.GetServiceId() == by.ServiceId })
	case *api.SelectBy_Slot:
		return "service", on(kind, func(t *api.Task) bool {
			return t.GetServiceId() == by.Slot.GetServiceId() && t.GetSlot() == by.Slot.GetSlot()
		})
	case *api.SelectBy_NodeId:
		return "node", on(kind, func(t *api.Task) bool { return t.GetNodeId() == by.NodeId })
	case *api.SelectBy_DesiredState:
		return "desired state", on(kind, func(t *api.Task) bool { return t.GetDesiredState() == by.DesiredState })
	case *api.SelectBy_Role:
		return "role", on(kind, func(n *api.Node) bool { return n.GetRole() == by.Role })
	case *api.SelectBy_Membership:
		return "membership", on(kind, func(n *api.Node) bool { return n.GetSpec().GetMembership() == by.Membership })
	case *api.SelectBy_Kind:
		return "kind", on(kind, func(r *api.Resource) bool { return r.GetKind() == by.Kind })
	case *api.SelectBy_ReferencedNetworkId:
		return "referenced network", refersTo(kind, func(spec *api.TaskSpec) bool { return refersToNetwork(spec, by.ReferencedNetworkId) })
	case *api.SelectBy_ReferencedSecretId:
		return "referenced secret", refersTo(kind, func(spec *api.TaskSpec) bool { return refersToSecret(spec, by.ReferencedSecretId) })
	case *api.SelectBy_ReferencedConfigId:
		return "referenced config", refersTo(kind, func(spec *api.TaskSpec) bool { return refersToConfig(spec, by.ReferencedConfigId) })
	}
	return "", nil
}

// ofKind selects the resources of one extension.
func ofKind(name string) filter {
	return on(store.KindResource, func(r *api.Resource) bool { return r.GetKind() == name })
}

// on makes a filter for objects of one type, nil if the kind is not of that type.
func on[T store.Object](kind store.Kind, holds func(T) bool) filter {
	var none T
	if store.KindOf(none) != kind {
		return nil
	}
	return func(o store.Object) bool {
		t, ok := o.(T)
		return ok && holds(t)
	}
}

// refersTo makes a filter on what the tasks of services, and tasks, need. All
// other objects refer to nothing and pass.
func refersTo(kind store.Kind, holds func(*api.TaskSpec) bool) filter {
	switch kind {
	case store.KindService:
		return on(kind, func(v *api.Service) bool { return holds(v.GetSpec().GetTask()) })
	case store.KindTask:
		return on(kind, func(t *api.Task) bool { return holds(t.GetSpec()) })
	default:
		return func(store.Object) bool { return true }
	}
}

func refersToNetwork(spec *api.TaskSpec, id string) bool {
	for _, n := range spec.GetNetworks() {
		if n.GetTarget() == id {
			return true
		}
	}
	return false
}

func refersToSecret(spec *api.TaskSpec, id string) bool {
	for r := range model.SecretsOf(spec) {
		if r.ID == id {
			return true
		}
	}
	return false
}

func refersToConfig(spec *api.TaskSpec, id string) bool {
	for r := range model.ConfigsOf(spec) {
		if r.ID == id {
			return true
		}
	}
	return false
}

// nameOf returns the name by which people know an object: of a node its hostname,
// of a task what model.TaskName makes.
func nameOf(o store.Object) string {
	switch o := o.(type) {
	case *api.Node:
		return o.GetDescription().GetHostname()
	case *api.Task:
		return model.TaskName(o)
	}
	return annotationsOf(o).GetName()
}

// indexed reports whether o has a custom index of that name whose value is meant.
func indexed(o store.Object, index string, meant func(value string) bool) bool {
	for _, e := range annotationsOf(o).GetIndices() {
		if e.GetKey() == index && meant(e.GetVal()) {
			return true
		}
	}
	return false
}

func annotationsOf(o store.Object) *api.Annotations {
	switch o := o.(type) {
	case *api.Node:
		return o.GetSpec().GetAnnotations()
	case *api.Service:
		return o.GetSpec().GetAnnotations()
	case *api.Task:
		return o.GetAnnotations()
	case *api.Network:
		return o.GetSpec().GetAnnotations()
	case *api.Cluster:
		return o.GetSpec().GetAnnotations()
	case *api.Secret:
		return o.GetSpec().GetAnnotations()
	case *api.Config:
		return o.GetSpec().GetAnnotations()
	case *api.Volume:
		return o.GetSpec().GetAnnotations()
	case *api.Extension:
		return o.GetAnnotations()
	case *api.Resource:
		return o.GetAnnotations()
	}
	return nil
}
