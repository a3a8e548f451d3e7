package archtest

import (
	"os"
	"testing"
)

// rules are what the whole tree keeps.
var rules = []struct {
	name  string
	check func(*Tree) []Breach
}{
	{"packages import lower floors only", Floors},
	{"every package introduces itself in doc.go", Docs},
	{"no package has a name that fits everything", Names},
	{"one place makes a gRPC server", Servers},
	{"no forbidden module is imported", Imports},
	{"there are no init functions", Inits},
	{"package variables hold no state", Variables},
	{"no test sleeps for real", Sleeps},
	{"the page of faults names tests that are there", Faults},
}

func TestTheTreeKeepsItsRules(t *testing.T) {
	t.Parallel()
	tree, err := Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Packages) < 5 {
		t.Fatalf("found %d packages below the root, which cannot be all", len(tree.Packages))
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			for _, b := range rule.check(tree) {
				t.Error(b)
			}
		})
	}
}
