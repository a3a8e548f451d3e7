package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// query is what every List request can filter by.
type query struct {
	names, namePrefixes, idPrefixes []string
}

// finder finds objects of one kind by what a person types.
type finder[T object] struct {
	kind string
	name func(T) string
	get  func(ctx context.Context, id string) (T, error)
	list func(ctx context.Context, q query) ([]T, error)
	// short, if set, finds what a short name means at this moment.
	short func(ctx context.Context, name string) (found T, ok bool, err error)
}

// find returns the object whose ID or name is arg, or the only one whose ID or
// name begins with it.
func (f finder[T]) find(ctx context.Context, arg string) (T, error) {
	var none T
	if arg == "" {
		return none, fmt.Errorf("the name of the %s is empty", f.kind)
	}
	found, err := f.get(ctx, arg)
	if err == nil || status.Code(err) != codes.NotFound {
		return found, err
	}
	if f.short != nil {
		if found, ok, err := f.short(ctx, arg); ok || err != nil {
			return found, err
		}
	}
	for _, q := range []query{
		{names: []string{arg}},
		{idPrefixes: []string{arg}},
		{namePrefixes: []string{arg}},
	} {
		matches, err := f.list(ctx, q)
		switch {
		case err != nil:
			return none, err
		case len(matches) == 1:
			return matches[0], nil
		case len(matches) > 1:
			return none, f.ambiguous(arg, matches)
		}
	}
	return none, exitf(ExitNotFound, "%s %q not found; 'swarmctl %s ls' lists them", f.kind, arg, f.kind)
}

func (f finder[T]) ambiguous(arg string, matches []T) error {
	const shown = 5
	slices.SortFunc(matches, func(x, y T) int { return strings.Compare(f.name(x), f.name(y)) })
	var names []string
	for _, m := range matches[:min(len(matches), shown)] {
		names = append(names, f.name(m)+" ("+m.GetId()+")")
	}
	if len(matches) > shown {
		names = append(names, "…")
	}
	return fmt.Errorf("%s %q is ambiguous (%d matches found): %s; type more of the ID or name",
		f.kind, arg, len(matches), strings.Join(names, ", "))
}

// each runs do for every named object and goes on after an error; the first
// error decides the exit status, the others are printed as they come.
func each[T object](ctx context.Context, a *app, f finder[T], args []string, do func(T) error) error {
	var first error
	for _, arg := range args {
		found, err := f.find(ctx, arg)
		if err == nil {
			err = do(found)
		}
		switch {
		case err == nil:
		case first == nil:
			first = err
		default:
			fmt.Fprintln(a.Err, "Error:", a.text(err))
		}
	}
	return first
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
