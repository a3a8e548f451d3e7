package controlapi

import (
	"iter"
	"slices"
	"strings"

	"skep/store"
)

// filters is what the filters of all kinds have in common. A nil message has none.
type filters interface {
	GetNames() []string
	GetNamePrefixes() []string
	GetIdPrefixes() []string
	GetLabels() map[string]string
}

// holdAll reports whether an object meets every sort of filter that is set.
func holdAll(f filters, id, name string, labels map[string]string) bool {
	return among(f.GetNames(), name) &&
		amongPrefixes(f.GetNamePrefixes(), name) &&
		amongPrefixes(f.GetIdPrefixes(), id) &&
		labelled(f.GetLabels(), labels)
}

// holdAny reports whether an object meets one sort of filter that is set, if any
// is, and has the labels.
func holdAny(f filters, id, name string, labels map[string]string) bool {
	none := len(f.GetNames())+len(f.GetNamePrefixes())+len(f.GetIdPrefixes()) == 0
	return labelled(f.GetLabels(), labels) && (none ||
		slices.Contains(f.GetNames(), name) ||
		hasPrefix(f.GetNamePrefixes(), name) ||
		hasPrefix(f.GetIdPrefixes(), id))
}

// among reports whether v is one of wanted, or nothing is.
func among[V comparable](wanted []V, v V) bool {
	return len(wanted) == 0 || slices.Contains(wanted, v)
}

func amongPrefixes(prefixes []string, v string) bool {
	return len(prefixes) == 0 || hasPrefix(prefixes, v)
}

func hasPrefix(prefixes []string, v string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(v, p) })
}

// labelled reports whether labels has every wanted key with its value; an empty
// value stands for any.
func labelled(wanted, labels map[string]string) bool {
	for k, v := range wanted {
		if have, ok := labels[k]; !ok || v != "" && have != v {
			return false
		}
	}
	return true
}

// named yields the objects that may have one of the names: those, looked up, or
// all if there are none. A look-up does not regard case, filters do.
func named[T store.Object](t store.Table[T], names []string) iter.Seq[T] {
	if len(names) == 0 {
		return t.All()
	}
	return func(yield func(T) bool) {
		for _, name := range names {
			if o, ok := t.Named(name); ok && !yield(o) {
				return
			}
		}
	}
}

// list collects what is kept, each object once, ordered by ID.
func list[T store.Object](objects iter.Seq[T], keep func(T) bool) []T {
	var kept []T
	for o := range objects {
		if keep(o) {
			kept = append(kept, o)
		}
	}
	slices.SortFunc(kept, func(a, b T) int { return strings.Compare(a.GetId(), b.GetId()) })
	return slices.CompactFunc(kept, func(a, b T) bool { return a.GetId() == b.GetId() })
}
