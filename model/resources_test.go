package model

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"skep/api"
)

// show prints resources as they are parsed.
func show(rs []*api.GenericResource) string {
	items := make([]string, len(rs))
	for i, r := range rs {
		if n := r.GetNamedResourceSpec(); n != nil {
			items[i] = n.Kind + "=" + n.Value
		} else {
			items[i] = fmt.Sprintf("%s=%d", r.GetDiscreteResourceSpec().GetKind(), r.GetDiscreteResourceSpec().GetValue())
		}
	}
	return strings.Join(items, ",")
}

func TestGenericResourcesAreNumbersOrNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                       "",
		" ":                      "",
		"fpga=2":                 "fpga=2",
		"fpga=2,gpu=U1,gpu=U2":   "fpga=2,gpu=U1,gpu=U2",
		" fpga = 2 , gpu = U1 ":  "fpga=2,gpu=U1",
		"fpga":                   "error",
		"fpga=":                  "error",
		"=2":                     "error",
		"fpga=2,":                "error",
		"fpga=-1":                "error",
		"fpga=1,fpga=2":          "error",
		"gpu=U1,gpu=2":           "error",
		"gpu=2,gpu=U1":           "error",
		"gpu=U1,gpu=U1":          "error",
		"x=99999999999999999999": "x=99999999999999999999", // too large for a number: a name
	} {
		parsed, err := ParseGenericResources(text)
		got := show(parsed)
		if err != nil {
			got = "error"
			if KindOf(err) != Invalid {
				t.Errorf("%q: error %v has kind %v, want Invalid", text, err, KindOf(err))
			}
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestAClaimTakesNumbersOrTheFirstFreeNames(t *testing.T) {
	t.Parallel()
	node, err := ParseGenericResources("gpu=U1,gpu=U2,gpu=U3,fpga=4")
	if err != nil {
		t.Fatal(err)
	}
	var use GenericUse
	use.Take([]*api.GenericResource{NamedResource("gpu", "U1"), DiscreteResource("fpga", 1)})
	for _, c := range []struct{ want, got string }{
		{"gpu=1", "gpu=U2"},
		{"gpu=2,fpga=3", "fpga=3,gpu=U2,gpu=U3"},
		{"gpu=3", "none"},
		{"fpga=4", "none"},
		{"fpga=1,ssd=1", "none"},
		{"gpu=0", ""},
		{"", ""},
	} {
		want, err := ParseGenericResources(c.want)
		if err != nil {
			t.Fatal(err)
		}
		claimed, ok := use.Claim(node, want)
		got := show(claimed)
		if !ok {
			got = "none"
		}
		if got != c.got {
			t.Errorf("a claim of %q: got %q, want %q", c.want, got, c.got)
		}
		if use.Fits(node, want) != ok {
			t.Errorf("%q: Fits and Claim differ", c.want)
		}
	}
}

// Nothing is given twice, and what was given back can be given again.
func TestClaimsNeverExceedTheNode(t *testing.T) {
	t.Parallel()
	node, err := ParseGenericResources("gpu=U1,gpu=U2,gpu=U3,fpga=4")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var use GenericUse
		var held [][]*api.GenericResource
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "give back") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				use.Give(held[i])
				held = append(held[:i], held[i+1:]...)
				continue
			}
			want := []*api.GenericResource{
				DiscreteResource("gpu", rapid.Int64Range(0, 3).Draw(t, "gpu")),
				DiscreteResource("fpga", rapid.Int64Range(0, 4).Draw(t, "fpga")),
			}
			if claimed, ok := use.Claim(node, want); ok {
				use.Take(claimed)
				held = append(held, claimed)
			}
			names, numbers := map[string]int{}, int64(0)
			for _, claimed := range held {
				for _, r := range claimed {
					numbers += r.GetDiscreteResourceSpec().GetValue()
					if n := r.GetNamedResourceSpec(); n != nil {
						names[n.Value]++
					}
				}
			}
			if numbers > 4 {
				t.Fatalf("%d of 4 fpga are given", numbers)
			}
			for name, n := range names {
				if n > 1 {
					t.Fatalf("gpu %s is given %d times", name, n)
				}
			}
		}
		for _, claimed := range held {
			use.Give(claimed)
		}
		if !use.Equal(&GenericUse{}) {
			t.Fatal("all was given back, yet something is taken")
		}
	})
}

func FuzzParsingGenericResourcesNeverPanics(f *testing.F) {
	f.Add("fpga=2,gpu=U1,gpu=U2")
	f.Fuzz(func(t *testing.T, text string) {
		if parsed, err := ParseGenericResources(text); err == nil {
			var use GenericUse
			use.Take(parsed)
		}
	})
}
