package store

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
)

// Tx is a transaction. Reads through the embedded Snapshot see its own writes.
// It is valid until the function that it was given to returns.
type Tx struct {
	*Snapshot

	now      time.Time
	stamp    *timestamppb.Timestamp
	version  *api.Version
	writes   []Change // every write, in order
	reported int      // how many of them Writes returned
	silent   []Observer
	ended    bool
}

func newTx(base *Snapshot, now time.Time, version uint64) *Tx {
	return &Tx{
		Snapshot: base.begin(),
		now:      now,
		stamp:    timestamppb.New(now),
		version:  &api.Version{Index: version},
	}
}

// Now returns the time that the transaction stamps on what it writes.
func (tx *Tx) Now() time.Time { return tx.now }

// Create adds o, which belongs to the store from then on. The error is of kind
// Exists if its ID or its name is taken.
func (tx *Tx) Create(o Object) error {
	kind, err := writable(o)
	if err != nil {
		return err
	}
	if tx.table(kind).get(o.GetId()) != nil {
		return model.Errorf(model.Exists, "%s %s already exists", kind, o.GetId())
	}
	if err := tx.checkName(kind, o); err != nil {
		return err
	}
	setMeta(o, &api.Meta{Version: tx.version, CreatedAt: tx.stamp, UpdatedAt: tx.stamp})
	tx.write(kind, nil, o)
	return nil
}

// Update puts o in the place of the object with its ID; it belongs to the store
// from then on. o must carry the version of the stored object, otherwise the
// error is of kind Conflict. An object that equals the stored one, but for its
// meta, writes nothing.
func (tx *Tx) Update(o Object) error {
	kind, err := writable(o)
	if err != nil {
		return err
	}
	old := tx.table(kind).get(o.GetId())
	if old == nil {
		return notFound(kind, o.GetId())
	}
	if o.GetMeta().GetVersion().GetIndex() != old.GetMeta().GetVersion().GetIndex() {
		return errOutOfSequence(kind, o.GetId())
	}
	if same(old, o) {
		return nil
	}
	if err := tx.checkName(kind, o); err != nil {
		return err
	}
	setMeta(o, &api.Meta{Version: tx.version, CreatedAt: old.GetMeta().GetCreatedAt(), UpdatedAt: tx.stamp})
	tx.write(kind, old, o)
	return nil
}

// Delete removes the object with o's kind and ID, whatever its version.
func (tx *Tx) Delete(o Object) error { return tx.Remove(KindOf(o), o.GetId()) }

// Remove removes an object. The error is of kind NotFound if there is none.
func (tx *Tx) Remove(kind Kind, id string) error {
	t := tx.table(kind)
	if t == nil {
		return model.Errorf(model.Internal, "remove %s: not a kind of object", id)
	}
	old := t.get(id)
	if old == nil {
		return notFound(kind, id)
	}
	tx.write(kind, old, nil)
	return nil
}

// Writes returns what the transaction did since the last call, write by write,
// so that views can be kept current in the middle of it.
func (tx *Tx) Writes() []Change {
	w := tx.writes[tx.reported:len(tx.writes):len(tx.writes)]
	tx.reported = len(tx.writes)
	return w
}

// Silent keeps the changes of this transaction from o, which learns of them by
// Writes. If the transaction fails, o is reset instead.
func (tx *Tx) Silent(o Observer) { tx.silent = append(tx.silent, o) }

func (tx *Tx) write(kind Kind, old, new Object) {
	if tx.ended { // what it would write to is a head by now
		panic("store: a transaction was written to after its function returned")
	}
	tx.replace(kind, old, new)
	tx.writes = append(tx.writes, Change{kind, old, new})
}

func (tx *Tx) checkName(kind Kind, o Object) error {
	name := NameOf(o)
	if name == "" {
		return nil
	}
	if id, taken := tx.table(kind).holder(name); taken && id != o.GetId() {
		return model.Errorf(model.Exists, "name conflicts with an existing object: %s %s already exists", kind, name)
	}
	return nil
}

func writable(o Object) (Kind, error) {
	kind := KindOf(o)
	switch {
	case kind == 0:
		return 0, model.Errorf(model.Internal, "write %T: not a kind of object", o)
	case o.GetId() == "":
		return 0, model.Errorf(model.Invalid, "write %s: it has no ID", kind)
	}
	return kind, nil
}

func notFound(kind Kind, id string) error {
	return model.Errorf(model.NotFound, "%s %s not found", kind, id)
}

func errOutOfSequence(kind Kind, id string) error {
	return model.Errorf(model.Conflict, "update out of sequence: %s %s was changed since it was read; read it again", kind, id)
}

// fold merges the writes to one object into one change, in the order of first
// writes. What was created and removed leaves no trace.
func fold(writes []Change) []Change {
	if len(writes) < 2 {
		return writes
	}
	type ref struct {
		kind Kind
		id   string
	}
	at := make(map[ref]int, len(writes))
	folded := make([]Change, 0, len(writes))
	for _, w := range writes {
		r := ref{w.Kind, w.ID()}
		if i, ok := at[r]; ok {
			folded[i].New = w.New
			continue
		}
		at[r] = len(folded)
		folded = append(folded, w)
	}
	kept := folded[:0]
	for _, c := range folded {
		if c.Old != nil || c.New != nil {
			kept = append(kept, c)
		}
	}
	return kept
}
