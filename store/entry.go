package store

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

// maxEntry is the size from which peers of other makes refuse a raft message.
const maxEntry = 3 << 19 // 1.5 MiB

// encodeEntry returns the log entry of a transaction, in the contract's own words.
func encodeEntry(id uint64, changes []Change) ([]byte, error) {
	req := &api.InternalRaftRequest{Id: id, Action: make([]*api.StoreAction, len(changes))}
	for i, c := range changes {
		switch {
		case c.New == nil:
			req.Action[i] = actionOn(api.StoreActionKind_STORE_ACTION_REMOVE, identity(c.Kind, c.ID()))
		case c.Old == nil:
			req.Action[i] = actionOn(api.StoreActionKind_STORE_ACTION_CREATE, c.New)
		default:
			req.Action[i] = actionOn(api.StoreActionKind_STORE_ACTION_UPDATE, c.New)
		}
	}
	data, err := proto.Marshal(req)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "encode the transaction: %w", err)
	}
	if len(data) > maxEntry {
		return nil, model.Errorf(model.Exhausted,
			"raft message is too large: %d bytes of %d; write less at once", len(data), maxEntry)
	}
	return data, nil
}

// decodeEntry returns the writes of an entry that somebody else proposed: new
// objects, or none for a removal. What it does not know is an error.
func decodeEntry(data []byte) ([]Change, error) {
	var req api.InternalRaftRequest
	if err := proto.Unmarshal(data, &req); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	changes := make([]Change, len(req.Action))
	for i, a := range req.Action {
		o := targetOf(a)
		if o == nil {
			return nil, fmt.Errorf("action %d of %d: unknown kind of object; a newer manager wrote it", i+1, len(req.Action))
		}
		kind := KindOf(o)
		if o.GetId() == "" {
			return nil, fmt.Errorf("action %d of %d: a %s without ID", i+1, len(req.Action), kind)
		}
		switch a.Action {
		case api.StoreActionKind_STORE_ACTION_CREATE, api.StoreActionKind_STORE_ACTION_UPDATE:
			changes[i] = Change{Kind: kind, New: o}
		case api.StoreActionKind_STORE_ACTION_REMOVE:
			changes[i] = Change{Kind: kind, Old: o}
		default:
			return nil, fmt.Errorf("action %d of %d: unknown action %d on %s %s", i+1, len(req.Action), a.Action, kind, o.GetId())
		}
	}
	return changes, nil
}
