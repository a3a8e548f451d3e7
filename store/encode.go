package store

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

// maxEntry is the size from which peers of other makes refuse a raft message.
const maxEntry = 3 << 19 // 1.5 MiB

// maxParts bounds the encoded parts that an encoder or a decoder remembers, in bytes.
const maxParts = 4 << 20

// Numbers of the contract's messages InternalRaftRequest, StoreAction and Task.
// The numbers of StoreAction's targets are with the kinds.
const (
	requestID     protowire.Number = 1
	requestAction protowire.Number = 2
	actionKind    protowire.Number = 1
	taskSpec      protowire.Number = 3
	taskService   protowire.Number = 8 // service_annotations
)

// encoder writes the contract's encoding of actions, the same bytes for equal
// objects. Most of a task is its spec and the service's annotations, which the
// tasks of a service share: those are encoded once and copied from then on.
type encoder struct {
	parts map[proto.Message][]byte
	size  int // of parts

	entry, action, object []byte // room to work in
	task                  api.Task
}

func newEncoder() *encoder { return &encoder{parts: map[proto.Message][]byte{}} }

// encodeEntry returns the log entry of a transaction.
func (e *encoder) encodeEntry(id uint64, changes []Change) ([]byte, error) {
	b := protowire.AppendTag(e.entry[:0], requestID, protowire.VarintType)
	b = protowire.AppendVarint(b, id)
	for _, c := range changes {
		kind, o := api.StoreActionKind_STORE_ACTION_UPDATE, c.New
		switch {
		case c.New == nil:
			kind, o = api.StoreActionKind_STORE_ACTION_REMOVE, c.Kind.object(c.ID())
		case c.Old == nil:
			kind = api.StoreActionKind_STORE_ACTION_CREATE
		}
		action, err := e.encodeAction(kind, c.Kind, o)
		if err != nil {
			return nil, model.Errorf(model.Invalid, "write %s %s: %w", c.Kind, c.ID(), err)
		}
		b = protowire.AppendTag(b, requestAction, protowire.BytesType)
		b = protowire.AppendBytes(b, action)
		if len(b) > maxEntry {
			return nil, model.Errorf(model.Exhausted,
				"raft message is too large: more than %d bytes; write less in one transaction", maxEntry)
		}
	}
	e.entry = b
	return bytes.Clone(b), nil
}

// encodeAction returns a StoreAction, which is good until the next call.
func (e *encoder) encodeAction(action api.StoreActionKind, kind Kind, o Object) ([]byte, error) {
	object, err := e.encodeObject(o)
	if err != nil {
		return nil, err
	}
	b := protowire.AppendTag(e.action[:0], actionKind, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(action))
	b = protowire.AppendTag(b, kind.target(), protowire.BytesType)
	b = protowire.AppendBytes(b, object)
	if cap(b) <= maxEntry { // one huge object is not worth keeping the room for
		e.object, e.action = object, b
	}
	return b, nil
}

func (e *encoder) encodeObject(o Object) ([]byte, error) {
	opts := proto.MarshalOptions{Deterministic: true}
	t, ok := o.(*api.Task)
	if !ok {
		return opts.MarshalAppend(e.object[:0], o)
	}
	b, err := opts.MarshalAppend(e.object[:0], e.withoutParts(t))
	if err == nil && t.Spec != nil {
		b, err = e.appendPart(b, taskSpec, t.Spec)
	}
	if err == nil && t.ServiceAnnotations != nil {
		b, err = e.appendPart(b, taskService, t.ServiceAnnotations)
	}
	return b, err
}

// withoutParts returns all of t but what it shares, good until the next call.
// Field by field because this is done for every write to every task; a test
// fails if one is forgotten.
func (e *encoder) withoutParts(t *api.Task) *api.Task {
	r := &e.task
	r.Id = t.Id
	r.Meta = t.Meta
	r.SpecVersion = t.SpecVersion
	r.ServiceId = t.ServiceId
	r.Slot = t.Slot
	r.NodeId = t.NodeId
	r.Annotations = t.Annotations
	r.Status = t.Status
	r.DesiredState = t.DesiredState
	r.Networks = t.Networks
	r.Endpoint = t.Endpoint
	r.LogDriver = t.LogDriver
	r.AssignedGenericResources = t.AssignedGenericResources
	r.JobIteration = t.JobIteration
	r.Volumes = t.Volumes
	to, from := r.ProtoReflect(), t.ProtoReflect().GetUnknown()
	if len(from) > 0 || len(to.GetUnknown()) > 0 {
		to.SetUnknown(from)
	}
	return r
}

func (e *encoder) appendPart(b []byte, num protowire.Number, m proto.Message) ([]byte, error) {
	part, ok := e.parts[m]
	if !ok {
		var err error
		if part, err = (proto.MarshalOptions{Deterministic: true}).Marshal(m); err != nil {
			return nil, err
		}
		if e.size += len(part); e.size > maxParts {
			clear(e.parts)
			e.size = len(part)
		}
		e.parts[m] = part
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), part), nil
}
