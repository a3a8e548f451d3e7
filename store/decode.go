package store

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// decoder reads actions. What the tasks of a service share, the spec and the
// service's annotations, it knows by its bytes when it comes again, and neither
// decodes nor compares it.
type decoder struct {
	specs    map[string]*api.TaskSpec
	services map[string]*api.Annotations
	size     int // of the keys

	task []byte // room to work in
}

func newDecoder() *decoder {
	return &decoder{specs: map[string]*api.TaskSpec{}, services: map[string]*api.Annotations{}}
}

// decoded is an action on an object.
type decoded struct {
	action api.StoreActionKind
	kind   Kind
	object Object
	// parts are the encodings of a task's parts that were not known. Once it is
	// settled which objects stand for them, remember makes them known.
	parts
}

// parts are what a task has in common with others, nil if it is not there.
type parts struct{ spec, service []byte }

// decodeEntry returns the actions of an entry that somebody else proposed. What
// it does not know is an error, since skipping it would make this manager's
// state differ from theirs; only fields that objects carry are kept unread.
func (d *decoder) decodeEntry(data []byte) (actions []decoded, err error) {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, fmt.Errorf("decode: %w", protowire.ParseError(n))
		}
		data = data[n:]
		switch {
		case num == requestID && typ == protowire.VarintType:
			_, n = protowire.ConsumeVarint(data)
		case num == requestAction && typ == protowire.BytesType:
			var body []byte
			if body, n = protowire.ConsumeBytes(data); n >= 0 {
				a, err := d.decodeAction(body)
				if err != nil {
					return nil, fmt.Errorf("action %d: %w", len(actions)+1, err)
				}
				actions = append(actions, a)
			}
		default:
			return nil, fmt.Errorf("decode: unknown field %d; a newer manager wrote it", num)
		}
		if n < 0 {
			return nil, fmt.Errorf("decode: %w", protowire.ParseError(n))
		}
		data = data[n:]
	}
	return actions, nil
}

func (d *decoder) decodeAction(data []byte) (a decoded, err error) {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return a, protowire.ParseError(n)
		}
		data = data[n:]
		kind := kindOfTarget(num)
		switch {
		case num == actionKind && typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(data)
			a.action = api.StoreActionKind(v)
		case kind == 0 || typ != protowire.BytesType:
			return a, fmt.Errorf("unknown kind of object, field %d; a newer manager wrote it", num)
		case a.object != nil:
			return a, fmt.Errorf("it has both a %s and a %s", a.kind, kind)
		default:
			var body []byte
			if body, n = protowire.ConsumeBytes(data); n >= 0 {
				a.kind = kind
				if a.object, a.parts, err = d.decodeObject(kind, body); err != nil {
					return a, fmt.Errorf("decode a %s: %w", kind, err)
				}
			}
		}
		if n < 0 {
			return a, protowire.ParseError(n)
		}
		data = data[n:]
	}
	switch {
	case a.object == nil:
		return a, fmt.Errorf("it has no object")
	case a.object.GetId() == "":
		return a, fmt.Errorf("a %s without ID", a.kind)
	}
	switch a.action {
	case api.StoreActionKind_STORE_ACTION_CREATE, api.StoreActionKind_STORE_ACTION_UPDATE, api.StoreActionKind_STORE_ACTION_REMOVE:
		return a, nil
	}
	return a, fmt.Errorf("unknown action %d on %s %s; a newer manager wrote it", a.action, a.kind, a.object.GetId())
}

// decodeObject returns an object and those of its parts that were not known.
func (d *decoder) decodeObject(kind Kind, data []byte) (Object, parts, error) {
	if kind == KindTask {
		if rest, shared, ok := d.splitTask(data); ok {
			return d.decodeTask(rest, shared)
		}
	}
	o := kind.object("")
	return o, parts{}, proto.Unmarshal(data, o)
}

func (d *decoder) decodeTask(rest []byte, shared parts) (_ Object, unknown parts, err error) {
	t := new(api.Task)
	if err := proto.Unmarshal(rest, t); err != nil {
		return nil, parts{}, err
	}
	if shared.spec != nil {
		if t.Spec = d.specs[string(shared.spec)]; t.Spec == nil {
			t.Spec, unknown.spec = new(api.TaskSpec), shared.spec
			err = proto.Unmarshal(shared.spec, t.Spec)
		}
	}
	if shared.service != nil && err == nil {
		if t.ServiceAnnotations = d.services[string(shared.service)]; t.ServiceAnnotations == nil {
			t.ServiceAnnotations, unknown.service = new(api.Annotations), shared.service
			err = proto.Unmarshal(shared.service, t.ServiceAnnotations)
		}
	}
	return t, unknown, err
}

// splitTask returns the encoding of a task without the parts that it shares,
// which is good until the next call, and theirs. Not ok is a task that is out of
// the ordinary; the protobuf runtime deals with it as a whole.
func (d *decoder) splitTask(data []byte) (rest []byte, shared parts, ok bool) {
	rest = d.task[:0]
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, parts{}, false
		}
		m := protowire.ConsumeFieldValue(num, typ, data[n:])
		if m < 0 {
			return nil, parts{}, false
		}
		part := &shared.spec
		switch num {
		case taskService:
			part = &shared.service
			fallthrough
		case taskSpec:
			if typ != protowire.BytesType || *part != nil {
				return nil, parts{}, false
			}
			*part, _ = protowire.ConsumeBytes(data[n:])
		default:
			rest = append(rest, data[:n+m]...)
		}
		data = data[n+m:]
	}
	d.task = rest
	return rest, shared, true
}

// remember makes the parts known that a was decoded with.
func (d *decoder) remember(a decoded) {
	if a.spec == nil && a.service == nil {
		return
	}
	n := len(a.spec) + len(a.service)
	if d.size += n; d.size > maxParts {
		clear(d.specs)
		clear(d.services)
		d.size = n
	}
	t := a.object.(*api.Task)
	if a.spec != nil {
		d.specs[string(a.spec)] = t.Spec
	}
	if a.service != nil {
		d.services[string(a.service)] = t.ServiceAnnotations
	}
}
