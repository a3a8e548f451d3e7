package archtest

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cockroachdb/datadriven"
	"github.com/rogpeppe/go-internal/txtar"
)

// A case is a small tree as a txtar archive; its answer is what the rule that
// the command names has to say about it.
func TestRulesFindWhatBreaksThem(t *testing.T) {
	t.Parallel()
	checks := map[string]func(*Tree) []Breach{
		"floors": Floors, "docs": Docs, "names": Names, "servers": Servers,
		"imports": Imports, "inits": Inits, "variables": Variables, "sleeps": Sleeps, "faults": Faults,
	}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			check, ok := checks[d.Cmd]
			if !ok {
				d.Fatalf(t, "there is no rule %q", d.Cmd)
			}
			files := fstest.MapFS{}
			for _, f := range txtar.Parse([]byte(d.Input)).Files {
				files[f.Name] = &fstest.MapFile{Data: f.Data}
			}
			tree, err := Load(files)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			var out strings.Builder
			for _, b := range check(tree) {
				fmt.Fprintf(&out, "%s: %s\n", b.Where, b.What)
			}
			if out.Len() == 0 {
				return "ok\n"
			}
			return out.String()
		})
	})
}
