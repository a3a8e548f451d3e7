package store

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// An action is decoded in two steps. The first is most of the work and needs nothing but
// the bytes, so that many can be done at a time; the second is done in the order of the log.

// decoded is an action on an object.
type decoded struct {
	action api.StoreActionKind
	kind   Kind
	object Object
	// encoded are the parts of a task that are not in it before complete.
	encoded struct{ spec, service []byte }
	spec    *part[*api.TaskSpec]
	service *part[*api.Annotations]
}

// scratch is room to decode in, for one goroutine.
type scratch struct{ task []byte }

// decodeEntry returns the actions of an entry that somebody else proposed. What
// it does not know is an error, since skipping it would make this manager's
// state differ from theirs; only fields that objects carry are kept unread.
func (d *scratch) decodeEntry(data []byte) (actions []decoded, err error) {
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

func (d *scratch) decodeAction(data []byte) (a decoded, err error) {
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
				if err = d.decodeObject(&a, body); err != nil {
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

// decodeObject decodes the object of a.
func (d *scratch) decodeObject(a *decoded, data []byte) error {
	a.object = a.kind.object("")
	if a.kind == KindTask {
		if rest, ok := d.splitTask(a, data); ok {
			return proto.Unmarshal(rest, a.object)
		}
		a.encoded.spec, a.encoded.service = nil, nil
	}
	return proto.Unmarshal(data, a.object)
}

// splitTask returns the encoding of a task without the parts that it shares,
// which is good until the next call; they are left to a. Not ok is a task that is
// out of the ordinary; the protobuf runtime deals with it as a whole.
func (d *scratch) splitTask(a *decoded, data []byte) (rest []byte, ok bool) {
	rest = d.task[:0]
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, false
		}
		m := protowire.ConsumeFieldValue(num, typ, data[n:])
		if m < 0 {
			return nil, false
		}
		shared := &a.encoded.spec
		switch num {
		case taskService:
			shared = &a.encoded.service
			fallthrough
		case taskSpec:
			if typ != protowire.BytesType || *shared != nil {
				return nil, false
			}
			*shared, _ = protowire.ConsumeBytes(data[n:])
		default:
			rest = append(rest, data[:n+m]...)
		}
		data = data[n+m:]
	}
	d.task = rest
	return rest, true
}

// decoder completes actions. What the tasks of a service share, the spec and the
// service's annotations, it knows by its bytes when it comes again, and neither
// decodes nor compares it.
type decoder struct {
	specs    map[string]*part[*api.TaskSpec]
	services map[string]*part[*api.Annotations]
	size     int // of the keys
}

func newDecoder() *decoder {
	d := &decoder{}
	d.forget()
	return d
}

func (d *decoder) forget() {
	d.specs, d.services, d.size = map[string]*part[*api.TaskSpec]{}, map[string]*part[*api.Annotations]{}, 0
}

// part is what several tasks have in common.
type part[M sharable] struct {
	message M
	settled bool // message is the one that the state has
}

type sharable interface {
	comparable
	proto.Message
}

// complete gives a task the parts that it shares with others.
func (d *decoder) complete(a *decoded) error {
	if d.size > maxParts {
		d.forget()
	}
	t, ok := a.object.(*api.Task)
	if !ok {
		return nil
	}
	if data := a.encoded.spec; data != nil {
		if a.spec = d.specs[string(data)]; a.spec == nil {
			a.spec = &part[*api.TaskSpec]{message: new(api.TaskSpec)}
			if err := proto.Unmarshal(data, a.spec.message); err != nil {
				return fmt.Errorf("decode a task's spec: %w", err)
			}
			d.specs[string(data)] = a.spec
			d.size += len(data)
		}
		t.Spec = a.spec.message
	}
	if data := a.encoded.service; data != nil {
		if a.service = d.services[string(data)]; a.service == nil {
			a.service = &part[*api.Annotations]{message: new(api.Annotations)}
			if err := proto.Unmarshal(data, a.service.message); err != nil {
				return fmt.Errorf("decode the annotations of a task's service: %w", err)
			}
			d.services[string(data)] = a.service
			d.size += len(data)
		}
		t.ServiceAnnotations = a.service.message
	}
	a.encoded.spec, a.encoded.service = nil, nil
	return nil
}

// settle returns what stands for the part in the state: the first time one of the
// candidates, if one is equal.
func (p *part[M]) settle(candidates ...M) M {
	if !p.settled {
		p.message, p.settled = known(p.message, candidates...), true
	}
	return p.message
}
