package linear_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"skep/internal/linear"
)

const limit = time.Minute

// object is what a client of a single copy would see.
type object struct {
	there   bool
	value   string
	version uint64
}

func TestAHistoryOfOneCopyIsLinearizable(t *testing.T) {
	t.Parallel()
	var h linear.History
	create := h.Begin(linear.Op{Client: 1, Key: "a", Kind: linear.Create, Value: "one"})
	create.Done(10, "")
	slow := h.Begin(linear.Op{Client: 1, Key: "a", Kind: linear.Update, Expected: 10, Value: "two"})
	read := h.Begin(linear.Op{Client: 2, Key: "a", Kind: linear.Read})
	read.Done(12, "two") // before the writer itself has its answer
	slow.Done(12, "")
	h.Begin(linear.Op{Client: 2, Key: "a", Kind: linear.Update, Expected: 10, Value: "three"}).Refused()
	if err := h.Linearizable(limit); err != nil {
		t.Error(err)
	}
	if err := h.Present(map[string]linear.Object{"a": {Value: "two", Version: 12}}); err != nil {
		t.Error(err)
	}
	if h.Writes() != 2 || h.Len() != 4 {
		t.Errorf("it counts %d writes of %d operations", h.Writes(), h.Len())
	}
}

func TestWhatNoSingleCopyAnswersIsFound(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(*linear.History){
		"a stale read": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"}).Done(12, "")
			h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Done(10, "one")
		},
		"two writers that both win": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"}).Done(12, "")
			h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "three"}).Done(13, "")
		},
		"a version that goes back": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"}).Done(9, "")
		},
		"a value that nobody wrote": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Done(11, "who?")
		},
		"an update refused for no reason": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"}).Refused()
		},
		"an object that vanished": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Refused()
		},
		"an effect of what never happened": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"}).Never()
			h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Done(12, "two")
		},
		"an effect that comes and goes": func(h *linear.History) {
			h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"})
			h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Done(12, "two")
			h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Done(10, "one")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h linear.History
			h.Begin(linear.Op{Key: "a", Kind: linear.Create, Value: "one"}).Done(10, "")
			bad(&h)
			if err := h.Linearizable(limit); err == nil {
				t.Error("it passes")
			}
		})
	}
}

func TestAnOutcomeThatNobodyKnowsMayBeEither(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]linear.Object{
		"it happened": {Value: "two", Version: 12}, "it did not": {Value: "one", Version: 10},
	} {
		var h linear.History
		h.Begin(linear.Op{Key: "a", Kind: linear.Create, Value: "one"}).Done(10, "")
		h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"})
		h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Done(10, "one") // it may happen later still
		h.Begin(linear.Op{Key: "a", Kind: linear.Read}).Done(later.Version, later.Value)
		if err := h.Linearizable(limit); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := h.Present(map[string]linear.Object{"a": later}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALostWriteIsFound(t *testing.T) {
	t.Parallel()
	for name, is := range map[string]map[string]linear.Object{
		"gone":          {},
		"older":         {"a": {Value: "one", Version: 10}},
		"of nobody":     {"a": {Value: "who?", Version: 13}},
		"another value": {"a": {Value: "one", Version: 12}},
	} {
		var h linear.History
		h.Begin(linear.Op{Key: "a", Kind: linear.Create, Value: "one"}).Done(10, "")
		h.Begin(linear.Op{Key: "a", Kind: linear.Update, Expected: 10, Value: "two"}).Done(12, "")
		if err := h.Present(is); err == nil {
			t.Errorf("%s: it passes", name)
		}
	}
}

func TestRandomHistoriesOfOneCopyPass(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		var h linear.History
		var is object
		var version uint64
		// Each client has one operation open, which takes effect somewhere in between.
		effects := make([]func(), 4)
		ends := make([]func(), 4)
		for i := range 200 {
			c := r.IntN(len(effects))
			if ends[c] != nil {
				if effects[c] != nil {
					effects[c]()
				}
				ends[c]()
				effects[c], ends[c] = nil, nil
				continue
			}
			value := string(rune('a'+i%26)) + string(rune('a'+i/26))
			op := linear.Op{Client: c, Key: "k", Kind: linear.Kind(1 + r.IntN(3)), Value: value, Expected: is.version}
			p := h.Begin(op)
			lost := r.IntN(10) == 0
			ends[c] = func() {}
			effects[c] = func() {
				ok := op.Kind == linear.Create && !is.there || op.Kind == linear.Update && is.there && is.version == op.Expected || op.Kind == linear.Read && is.there
				if ok && op.Kind != linear.Read {
					version += 1 + r.Uint64N(3)
					is = object{there: true, value: op.Value, version: version}
				}
				seen := is
				switch {
				case lost:
				case ok:
					ends[c] = func() { p.Done(seen.version, seen.value) }
				default:
					ends[c] = p.Refused
				}
			}
			if r.IntN(2) == 0 {
				effects[c]()
				effects[c] = nil
			}
		}
		if err := h.Linearizable(limit); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
