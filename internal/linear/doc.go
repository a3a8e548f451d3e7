// Package linear records what clients of a control API asked and were told, and
// judges it: the history must be linearizable, versions may only grow, and what was
// acknowledged must be there.
//
// An object is a register with a version. Whoever creates or updates one says so to
// the History before the request leaves and after the answer has come; the order of
// those two moments over all clients is all the time there is, so wall clocks do not
// matter. An answer that leaves the outcome open is not ended: such an operation may
// have happened at any moment after it began, or never. Values must be unique.
package linear
