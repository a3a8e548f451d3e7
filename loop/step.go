package loop

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"skep/model"
	"skep/store"
)

const (
	// loopBytes bounds what one loop adds to one step, so that four loops stay well
	// below the largest entry that the log takes.
	loopBytes = 256 << 10
	// objectBytes is the largest object that a loop may write: one that the log
	// would refuse is left out alone, with an error, and holds up nothing else.
	objectBytes = 1400 << 10
	// mostErrors is how many errors of one step are told in full.
	mostErrors = 5
)

// step is one transaction of a runner: what its loops have written, and what
// they may still write.
type step struct {
	r       *Runner
	tx      *store.Tx
	loop    string
	left    int // writes
	bytes   int
	writes  int // of all loops
	effects []Effect
	failed  int
	errs    []error // the first of those that failed
}

// begin gives the step to a loop.
func (st *step) begin(loop string) {
	st.loop, st.left, st.bytes = loop, st.r.budget, loopBytes
}

func (st *step) full() bool { return st.left <= 0 || st.bytes <= 0 }

func (st *step) create(o store.Object) {
	if size, ok := st.fits("create", o); ok {
		st.bytes -= size
		st.done("create", o, 0, st.tx.Create(o))
	}
}

func (st *step) update(o store.Object) {
	if size, ok := st.fits("update", o); ok {
		st.done("update", o, size, st.tx.Update(o))
	}
}

func (st *step) remove(o store.Object) {
	st.done("delete", o, 0, st.tx.Delete(o))
}

// fits returns the size of an object that is to be written, and leaves out one
// that is too large.
func (st *step) fits(verb string, o store.Object) (size int, ok bool) {
	size = proto.Size(o)
	if size > objectBytes {
		st.fail(verb, o, model.Errorf(model.Exhausted, "it would have %d bytes, more than the log takes", size))
		return size, false
	}
	return size, true
}

// fail takes note of a write that was left out. It counts as one, so that a
// plan that tries again comes to an end.
func (st *step) fail(verb string, o store.Object, err error) {
	st.left--
	if st.failed++; st.failed <= mostErrors {
		st.errs = append(st.errs, fmt.Errorf("%s: %s %s %s: %w", st.loop, verb, store.KindOf(o), o.GetId(), err))
	}
}

// done takes note of a write of so many bytes and brings views and keys of all
// loops up to it.
func (st *step) done(verb string, o store.Object, size int, err error) {
	if err != nil {
		st.fail(verb, o, err)
		return
	}
	for _, c := range st.tx.Writes() {
		st.left--
		st.writes++
		st.bytes -= changed(c, size)
		if st.r.check != nil {
			if err := st.r.check(st.loop, c); err != nil {
				st.fail(verb, o, err)
			}
		}
		st.r.apply(c)
	}
}

// changed estimates what an update to size bytes, or a removal, adds to the entry:
// all of an object that the transaction had not written yet.
func changed(c store.Change, size int) int {
	switch {
	case c.New == nil:
		return len(c.Old.GetId()) + 16
	case c.Old == nil, c.Old.GetMeta().GetVersion() == c.New.GetMeta().GetVersion():
		return 0
	}
	return size
}

// err returns what was left out, nil if nothing was.
func (st *step) err() error {
	if st.failed == 0 {
		return nil
	}
	return leftOut{fmt.Errorf("%d writes were left out of a step: %w", st.failed, errors.Join(st.errs...))}
}

// leftOut is the error of a step that was taken without some of its writes.
type leftOut struct{ error }

func (e leftOut) Unwrap() error { return e.error }
