package hamt

// Edit is one writer's right to change in place the nodes that it made. A nil
// *Edit has made none: every write copies its path.
//
// A map written through an Edit may be handed out as a value only after Share.
type Edit struct{ owner *owner }

// owner marks nodes by its address, so it must not be of size zero.
type owner struct{ _ byte }

// Share gives up the right to change what was made so far: maps taken before
// it are from now on as immutable as any other.
func (e *Edit) Share() {
	if e != nil {
		e.owner = nil
	}
}

func (e *Edit) token() *owner {
	if e == nil {
		return nil
	}
	if e.owner == nil {
		e.owner = new(owner)
	}
	return e.owner
}
