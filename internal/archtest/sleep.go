package archtest

import "go/ast"

// Sleeps checks that no test sleeps for real: time.Sleep stands only inside
// the function handed to synctest.Test, where it moves fake time.
func Sleeps(t *Tree) []Breach {
	var out []Breach
	for _, p := range t.Packages {
		for _, f := range p.Files {
			if !f.Test {
				continue
			}
			clock, bubble := f.nameOf("time"), f.nameOf("testing/synctest")
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				if calls(n, bubble, "Test") {
					return false
				}
				if calls(n, clock, "Sleep") {
					out = append(out, Breach{t.at(n), "a test that sleeps",
						"wait for the event itself, or test in a synctest bubble and sleep in the function handed to synctest.Test"})
				}
				return true
			})
		}
	}
	return out
}
