package linear

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// register is an object in the model.
type register struct {
	there bool
	value string
	// version is 0 when it is only known to be above floor.
	version, floor uint64
}

// may reports whether the object can have a version.
func (r register) may(version uint64) bool {
	return r.there && (r.version == version || r.version == 0 && version > r.floor)
}

// newest is a version below which the next one cannot be.
func (r register) newest() uint64 { return max(r.version, r.floor) }

// step returns the states that an object can have after an operation; none means
// that the operation cannot have ended as it did.
func step(r register, op Op) []register {
	var after []register
	switch op.Kind {
	case Create:
		// Only an object that was never there is created: nothing here removes any.
		if !r.there && (op.outcome == unknown || op.outcome == done) {
			after = append(after, register{there: true, value: op.Value, version: op.version})
		}
		if r.there && op.outcome == refused || op.outcome == unknown {
			after = append(after, r)
		}
	case Update:
		fits := r.may(op.Expected)
		switch op.outcome {
		case done:
			if fits && op.version > max(r.newest(), op.Expected) {
				after = append(after, register{there: true, value: op.Value, version: op.version})
			}
		case unknown:
			if fits {
				after = append(after, register{there: true, value: op.Value, floor: max(r.newest(), op.Expected)})
			}
			after = append(after, r)
		case refused:
			if r.version != op.Expected || !r.there {
				after = append(after, r)
			}
		case never:
		}
	case Read:
		if op.outcome == refused && !r.there {
			after = append(after, r)
		}
		if op.outcome == done && r.may(op.version) && r.value == op.read {
			after = append(after, register{there: true, value: r.value, version: op.version})
		}
	}
	return after
}

func registers() porcupine.Model {
	return (&porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			var keys []string
			byKey := make(map[string][]porcupine.Operation)
			for _, o := range history {
				key := o.Input.(Op).Key
				if byKey[key] == nil {
					keys = append(keys, key)
				}
				byKey[key] = append(byKey[key], o)
			}
			var out [][]porcupine.Operation
			for _, key := range keys {
				out = append(out, byKey[key])
			}
			return out
		},
		Init: func() []any { return []any{register{}} },
		Step: func(state, input, _ any) []any {
			var out []any
			for _, r := range step(state.(register), input.(Op)) {
				out = append(out, r)
			}
			return out
		},
		Equal: func(a, b any) bool { return a.(register) == b.(register) },
	}).ToModel()
}

// Linearizable checks that the history is one of a single copy of the objects: each
// operation takes effect at one moment between its beginning and its end. It gives up
// with an error after limit of package time.
func (h *History) Linearizable(limit time.Duration) error {
	ops := h.all()
	seen := observed(ops)
	byKey := make(map[string][]porcupine.Operation)
	for _, op := range ops {
		ended := op.ended
		if op.outcome == unknown {
			if ended = seen.superseded(op); ended < op.call {
				continue
			}
		}
		byKey[op.Key] = append(byKey[op.Key], porcupine.Operation{ClientId: op.Client, Input: op, Call: op.call, Output: op.outcome, Return: ended})
	}
	m := registers()
	for key, history := range byKey {
		switch porcupine.CheckOperationsTimeout(m, history, limit) {
		case porcupine.Illegal:
			return fmt.Errorf("no single copy of %s can have answered so:\n%s", key, told(ops, key))
		case porcupine.Unknown:
			return fmt.Errorf("whether the %d operations on %s are linearizable was not found out within %v", len(history), key, limit)
		case porcupine.Ok:
		}
	}
	return nil
}

// sightings are, by key, the operations that were told a version, in order of their ends.
type sightings map[string][]Op

func observed(ops []Op) sightings {
	seen := make(sightings)
	for _, op := range ops {
		if op.outcome == done {
			seen[op.Key] = append(seen[op.Key], op)
		}
	}
	for _, of := range seen {
		slices.SortFunc(of, func(a, b Op) int { return cmp.Compare(a.ended, b.ended) })
	}
	return seen
}

// superseded is the last moment at which an operation of unknown outcome may have been
// carried out: when somebody was first told a version newer than the one it replaces. If
// nothing came of it, it may as well have been at any earlier moment. Without this end
// every such operation is concurrent with all that follows, and judging takes for ever.
func (s sightings) superseded(op Op) int64 {
	for _, other := range s[op.Key] {
		if other.version > op.Expected {
			return other.ended
		}
	}
	return math.MaxInt64
}

func told(ops []Op, key string) string {
	var lines []string
	for _, op := range ops {
		if op.Key == key {
			lines = append(lines, op.String())
		}
	}
	return strings.Join(lines, "\n")
}
