package watchapi

import (
	"skep/api"
	"skep/model"
	"skep/store"
)

// watch is a request, understood.
type watch struct {
	entries []entry // none: everything
	withOld bool
}

// entry is what must hold for a change to be an event.
type entry struct {
	kind    store.Kind
	actions api.WatchActionKind
	filters []filter
	key     store.Key // the narrowest that all its changes have
}

const everyAction = api.WatchActionKind_WATCH_ACTION_CREATE | api.WatchActionKind_WATCH_ACTION_UPDATE | api.WatchActionKind_WATCH_ACTION_REMOVE

func parse(r *api.WatchRequest) (*watch, error) {
	w := &watch{withOld: r.GetIncludeOldObject(), entries: make([]entry, len(r.GetEntries()))}
	for i, e := range r.GetEntries() {
		var err error
		if w.entries[i], err = parseEntry(e); err != nil {
			return nil, model.Errorf(model.KindOf(err), "watch entry %d: %w", i, err)
		}
	}
	return w, nil
}

func parseEntry(e *api.WatchRequest_WatchEntry) (entry, error) {
	if e.GetKind() == "" {
		return entry{}, model.Errorf(model.Invalid, "it has no kind: nothing says what is watched; name a kind, such as task")
	}
	if a := e.GetAction(); a == 0 || a&^everyAction != 0 {
		return entry{}, model.Errorf(model.Invalid, "action %d is not a sum of create (%d), update (%d) and remove (%d); add up those that are wanted",
			a, api.WatchActionKind_WATCH_ACTION_CREATE, api.WatchActionKind_WATCH_ACTION_UPDATE, api.WatchActionKind_WATCH_ACTION_REMOVE)
	}
	parsed := entry{actions: e.GetAction()}
	var err error
	if parsed.kind = builtIn(e.GetKind()); parsed.kind != 0 {
		parsed.filters, err = parseFilters(parsed.kind, e.GetFilters())
	} else {
		parsed.kind = store.KindResource
		parsed.filters, err = parseFilters(parsed.kind, e.GetFilters())
		parsed.filters = append(parsed.filters, ofKind(e.GetKind()))
	}
	if err != nil {
		return entry{}, err
	}
	parsed.key = keyOf(parsed.kind, e.GetFilters())
	return parsed, nil
}

// builtIn returns the kind of that name, 0 if there is none.
func builtIn(name string) store.Kind {
	for kind := store.KindNode; kind <= store.KindResource; kind++ {
		if kind.String() == name {
			return kind
		}
	}
	return 0
}

// keyOf returns the narrowest key that every event of an entry concerns. Tasks
// without a service, or without a node, have no key but their kind's.
func keyOf(kind store.Kind, filters []*api.SelectBy) store.Key {
	for _, f := range filters {
		if id := f.GetId(); id != "" {
			return store.ObjectKey(kind, id)
		}
		if id := f.GetServiceId() + f.GetSlot().GetServiceId(); id != "" {
			return store.ServiceTasks(id)
		}
		if id := f.GetNodeId(); id != "" {
			return store.NodeTasks(id)
		}
	}
	return store.KindKey(kind)
}

func (w *watch) keys() []store.Key {
	if len(w.entries) == 0 {
		return []store.Key{store.AllKey()}
	}
	keys := make([]store.Key, len(w.entries))
	for i, e := range w.entries {
		keys[i] = e.key
	}
	return keys
}

// event returns what a watch is told of a change, nil if it did not ask.
func (w *watch) event(c store.Change) *api.WatchMessage_Event {
	action, object := api.WatchActionKind_WATCH_ACTION_UPDATE, c.New
	switch {
	case c.Old == nil:
		action = api.WatchActionKind_WATCH_ACTION_CREATE
	case c.New == nil:
		action, object = api.WatchActionKind_WATCH_ACTION_REMOVE, c.Old
	}
	if !w.wants(c.Kind, action, object) {
		return nil
	}
	event := &api.WatchMessage_Event{Action: action, Object: wrap(object)}
	if w.withOld && action == api.WatchActionKind_WATCH_ACTION_UPDATE {
		event.OldObject = wrap(c.Old)
	}
	return event
}

func (w *watch) wants(kind store.Kind, action api.WatchActionKind, o store.Object) bool {
	if len(w.entries) == 0 {
		return true
	}
	for _, e := range w.entries {
		if e.kind == kind && e.actions&action != 0 && e.holds(o) {
			return true
		}
	}
	return false
}

func (e entry) holds(o store.Object) bool {
	for _, f := range e.filters {
		if !f(o) {
			return false
		}
	}
	return true
}

// wrap returns o as events carry it, without what must not leave the manager.
func wrap(o store.Object) *api.Object {
	switch o := o.(type) {
	case *api.Node:
		return &api.Object{Object: &api.Object_Node{Node: o}}
	case *api.Service:
		return &api.Object{Object: &api.Object_Service{Service: o}}
	case *api.Network:
		return &api.Object{Object: &api.Object_Network{Network: o}}
	case *api.Task:
		return &api.Object{Object: &api.Object_Task{Task: o}}
	case *api.Cluster:
		return &api.Object{Object: &api.Object_Cluster{Cluster: withoutTokens(model.RedactCluster(o))}}
	case *api.Secret:
		return &api.Object{Object: &api.Object_Secret{Secret: model.RedactSecret(o)}}
	case *api.Resource:
		return &api.Object{Object: &api.Object_Resource{Resource: o}}
	case *api.Extension:
		return &api.Object{Object: &api.Object_Extension{Extension: o}}
	case *api.Config:
		return &api.Object{Object: &api.Object_Config{Config: o}}
	case *api.Volume:
		return &api.Object{Object: &api.Object_Volume{Volume: o}}
	}
	return nil
}

// withoutTokens takes the join tokens out of a redacted cluster: whoever watches
// need not be able to bring in nodes.
func withoutTokens(c *api.Cluster) *api.Cluster {
	if c.GetRootCa().GetJoinTokens() != nil {
		c.RootCa = model.Shallow(c.RootCa)
		c.RootCa.JoinTokens = nil
	}
	return c
}
