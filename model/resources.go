package model

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"skep/api"
)

// Generic resources are what a node has beside CPU and memory, by kind: either a
// number of them (discrete: fpga=2) or a set of names (named: gpu=U1,gpu=U2). A
// task asks for a number of a kind; what it is given of a named kind are names.

// ParseGenericResources parses kind=number and kind=name items separated by
// commas, as in "fpga=2,gpu=U1,gpu=U2". A kind is either a number, said once,
// or names, each said once; the error has kind Invalid.
func ParseGenericResources(text string) ([]*api.GenericResource, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var parsed []*api.GenericResource
	discrete := map[string]bool{} // kind → whether it is discrete
	names := map[[2]string]bool{}
	for item := range strings.SplitSeq(text, ",") {
		kind, value, found := strings.Cut(strings.TrimSpace(item), "=")
		kind, value = strings.TrimSpace(kind), strings.TrimSpace(value)
		if !found || kind == "" || value == "" {
			return nil, Errorf(Invalid, "generic resource %q: write kind=number or kind=name", item)
		}
		number, err := strconv.ParseInt(value, 10, 64)
		isNumber := err == nil
		if was, seen := discrete[kind]; seen && (isNumber || was) {
			return nil, Errorf(Invalid, "generic resource %q: %s is given twice: a kind is either one number or several names", item, kind)
		}
		discrete[kind] = isNumber
		switch {
		case isNumber && number < 0:
			return nil, Errorf(Invalid, "generic resource %q: the number is negative", item)
		case isNumber:
			parsed = append(parsed, DiscreteResource(kind, number))
		case names[[2]string{kind, value}]:
			return nil, Errorf(Invalid, "generic resource %q: the name is given twice", item)
		default:
			names[[2]string{kind, value}] = true
			parsed = append(parsed, NamedResource(kind, value))
		}
	}
	return parsed, nil
}

// DiscreteResource makes a number of a kind.
func DiscreteResource(kind string, number int64) *api.GenericResource {
	return &api.GenericResource{Resource: &api.GenericResource_DiscreteResourceSpec{
		DiscreteResourceSpec: &api.DiscreteGenericResource{Kind: kind, Value: number}}}
}

// NamedResource makes one named resource of a kind.
func NamedResource(kind, name string) *api.GenericResource {
	return &api.GenericResource{Resource: &api.GenericResource_NamedResourceSpec{
		NamedResourceSpec: &api.NamedGenericResource{Kind: kind, Value: name}}}
}

// GenericUse counts which generic resources of a node are taken. The zero value
// has none taken. It may be asked for more than the node has (a node's
// description can shrink under its tasks): then nothing of that kind is left.
type GenericUse struct {
	numbers map[string]int64
	names   map[[2]string]int // by kind and name
}

// Take counts assigned as taken.
func (u *GenericUse) Take(assigned []*api.GenericResource) { u.add(assigned, 1) }

// Give counts assigned, taken before, as free again.
func (u *GenericUse) Give(assigned []*api.GenericResource) { u.add(assigned, -1) }

func (u *GenericUse) add(assigned []*api.GenericResource, sign int) {
	for _, r := range assigned {
		if named := r.GetNamedResourceSpec(); named != nil {
			if u.names == nil {
				u.names = map[[2]string]int{}
			}
			key := [2]string{named.GetKind(), named.GetValue()}
			if u.names[key] += sign; u.names[key] == 0 {
				delete(u.names, key)
			}
		} else if number := r.GetDiscreteResourceSpec(); number != nil {
			if u.numbers == nil {
				u.numbers = map[string]int64{}
			}
			if u.numbers[number.GetKind()] += int64(sign) * number.GetValue(); u.numbers[number.GetKind()] == 0 {
				delete(u.numbers, number.GetKind())
			}
		}
	}
}

// Equal reports whether the same is taken in both.
func (u *GenericUse) Equal(other *GenericUse) bool {
	return maps.Equal(u.numbers, other.numbers) && maps.Equal(u.names, other.names)
}

// Fits reports whether a node that has described, of which u is taken, can give
// what a task wants.
func (u *GenericUse) Fits(described, want []*api.GenericResource) bool {
	for kind, number := range wanted(want) {
		if u.free(described, kind) < number {
			return false
		}
	}
	return true
}

// Claim chooses what a task that wants so much is given of a node that has
// described, of which u is taken: numbers for discrete kinds, and the first free
// names, in the order of the description, for named ones. It does not Take them.
// It reports false when the node has not enough.
func (u *GenericUse) Claim(described, want []*api.GenericResource) ([]*api.GenericResource, bool) {
	if !u.Fits(described, want) {
		return nil, false
	}
	var claimed []*api.GenericResource
	totals := wanted(want)
	for _, kind := range slices.Sorted(maps.Keys(totals)) {
		number := totals[kind]
		for _, r := range described {
			named := r.GetNamedResourceSpec()
			if number == 0 || named.GetKind() != kind || u.names[[2]string{kind, named.GetValue()}] > 0 {
				continue
			}
			claimed = append(claimed, NamedResource(kind, named.GetValue()))
			number--
		}
		if number > 0 {
			claimed = append(claimed, DiscreteResource(kind, number))
		}
	}
	return claimed, true
}

// free counts what is left of a kind, named or discrete.
func (u *GenericUse) free(described []*api.GenericResource, kind string) int64 {
	free := -u.numbers[kind]
	for _, r := range described {
		if named := r.GetNamedResourceSpec(); named != nil {
			if named.GetKind() == kind && u.names[[2]string{kind, named.GetValue()}] == 0 {
				free++
			}
		} else if r.GetDiscreteResourceSpec().GetKind() == kind {
			free += r.GetDiscreteResourceSpec().GetValue()
		}
	}
	return free
}

// wanted sums what is asked for by kind. A named resource in a request counts as
// one of its kind: only numbers can be asked for. What is not positive asks for nothing.
func wanted(want []*api.GenericResource) map[string]int64 {
	if len(want) == 0 {
		return nil
	}
	totals := make(map[string]int64, len(want))
	for _, r := range want {
		if named := r.GetNamedResourceSpec(); named != nil {
			totals[named.GetKind()]++
		} else if number := r.GetDiscreteResourceSpec(); number.GetValue() > 0 {
			totals[number.GetKind()] += number.GetValue()
		}
	}
	return totals
}
