package store

import (
	"iter"
	"strings"

	"github.com/cespare/xxhash/v2"

	"skep/store/hamt"
)

// Table is all objects of one kind in one snapshot. A table taken from a
// transaction is good until the transaction's next write.
type Table[T Object] struct {
	objects hamt.Map[string, T]
	names   hamt.Map[string, string] // lower-case name to ID
	edit    *hamt.Edit               // set while a transaction may write
}

func newTable[T Object]() Table[T] {
	return Table[T]{
		objects: hamt.New[string, T](xxhash.Sum64String),
		names:   hamt.New[string, string](xxhash.Sum64String),
	}
}

// Get returns the object with the given ID.
func (t Table[T]) Get(id string) (T, bool) { return t.objects.Get(id) }

// Named returns the object with the given name, whatever its case. Nodes and
// tasks have no unique names, so there is never one.
func (t Table[T]) Named(name string) (T, bool) {
	if id, ok := t.names.Get(strings.ToLower(name)); ok {
		return t.objects.Get(id)
	}
	var none T
	return none, false
}

// Len returns the number of objects.
func (t Table[T]) Len() int { return t.objects.Len() }

// All yields every object; equal tables yield in the same order.
func (t Table[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		t.edit.Share()
		for _, o := range t.objects.All() {
			if !yield(o) {
				return
			}
		}
	}
}

// table is what is done to a table without knowing its kind.
type table interface {
	get(id string) Object
	holder(name string) (id string, ok bool)
	replace(e *hamt.Edit, old, new Object)
	all() iter.Seq[Object]
	since(old table) iter.Seq2[Object, Object]
	count() int
	writable(e *hamt.Edit)
}

func (t *Table[T]) get(id string) Object {
	if o, ok := t.objects.Get(id); ok {
		return o
	}
	return nil
}

// holder returns the ID of the object that has the name.
func (t *Table[T]) holder(name string) (string, bool) {
	return t.names.Get(strings.ToLower(name))
}

// replace puts new in old's place. Either may be nil.
func (t *Table[T]) replace(e *hamt.Edit, old, new Object) {
	var was, is string
	if old != nil {
		was = NameOf(old)
	}
	if new != nil {
		is = NameOf(new)
		t.objects = t.objects.Set(e, new.GetId(), new.(T))
	} else {
		t.objects = t.objects.Delete(e, old.GetId())
	}
	if was == is {
		return
	}
	if was != "" {
		// A name belongs to who took it last; another leader's entries may share one.
		if id, _ := t.holder(was); id == old.GetId() {
			t.names = t.names.Delete(e, strings.ToLower(was))
		}
	}
	if is != "" {
		t.names = t.names.Set(e, strings.ToLower(is), new.GetId())
	}
}

func (t *Table[T]) all() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for o := range t.All() {
			if !yield(o) {
				return
			}
		}
	}
}

func (t *Table[T]) count() int { return t.objects.Len() }

func (t *Table[T]) writable(e *hamt.Edit) { t.edit = e }
