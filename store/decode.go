package store

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

// decoder reads actions. Specs that it has seen before it knows by their bytes:
// it neither decodes nor compares them again.
type decoder struct {
	specs map[string]*api.TaskSpec
	size  int // of the keys

	task []byte // room to work in
}

func newDecoder() *decoder { return &decoder{specs: map[string]*api.TaskSpec{}} }

// decoded is an action on an object.
type decoded struct {
	action api.StoreActionKind
	kind   Kind
	object Object
	// spec is the encoding of a task's spec that was not known; once it is settled
	// which object stands for it, remember makes it known.
	spec []byte
}

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
				if a.object, a.spec, err = d.decodeObject(kind, body); err != nil {
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

func (d *decoder) decodeObject(kind Kind, data []byte) (Object, []byte, error) {
	rest, spec, ok := data, []byte(nil), false
	if kind == KindTask {
		if rest, spec, ok = d.splitTask(data); !ok {
			rest = data
		}
	}
	o := kind.object("")
	if err := proto.Unmarshal(rest, o); err != nil {
		return nil, nil, err
	}
	if !ok {
		return o, nil, nil
	}
	t := o.(*api.Task)
	if t.Spec = d.specs[string(spec)]; t.Spec != nil {
		return o, nil, nil
	}
	t.Spec = new(api.TaskSpec)
	return o, spec, proto.Unmarshal(spec, t.Spec)
}

// splitTask returns the encoding of a task without its spec, which is good
// until the next call, and that of the spec. Not ok is a task that has none or is
// out of the ordinary; the protobuf runtime deals with it as a whole.
func (d *decoder) splitTask(data []byte) (rest, spec []byte, ok bool) {
	rest = d.task[:0]
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, nil, false
		}
		m := protowire.ConsumeFieldValue(num, typ, data[n:])
		if m < 0 {
			return nil, nil, false
		}
		if num == taskSpec {
			if typ != protowire.BytesType || ok {
				return nil, nil, false
			}
			spec, _ = protowire.ConsumeBytes(data[n:])
			ok = true
		} else {
			rest = append(rest, data[:n+m]...)
		}
		data = data[n+m:]
	}
	d.task = rest
	return rest, spec, ok
}

// remember makes the spec known that a was decoded with.
func (d *decoder) remember(a decoded) {
	if a.spec == nil {
		return
	}
	if d.size += len(a.spec); d.size > maxSpecs {
		clear(d.specs)
		d.size = len(a.spec)
	}
	d.specs[string(a.spec)] = a.object.(*api.Task).Spec
}
