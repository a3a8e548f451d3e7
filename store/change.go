package store

// Change is one object before and after. Old is nil if it was created, New if
// it was removed.
type Change struct {
	Kind     Kind
	Old, New Object
}

// ID returns the ID of the object.
func (c Change) ID() string {
	if c.New != nil {
		return c.New.GetId()
	}
	return c.Old.GetId()
}

// Commit is the changes of one transaction. They are shared by all that get
// them and must not be changed.
type Commit struct {
	// Version is the transaction's own version, which its objects carry. A manager
	// that did not propose the transaction knows it only from the objects: for one
	// that wrote none, it is Index.
	Version uint64
	// Index is the entry's place in the log.
	Index   uint64
	Changes []Change
}

// View is derived state. Build starts it anew from a snapshot; Apply takes it
// one change further. After any history both must lead to the same state, which
// storetest.CheckView holds a view to.
type View interface {
	Build(*Snapshot)
	Apply(Change)
}
