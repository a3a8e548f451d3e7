package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Docs checks that every package has a doc.go whose comment introduces it.
func Docs(t *Tree) []Breach {
	const do = "every package has a doc.go that says what it decides, what it reads and writes, how it may be used at once, and what it does when it cannot"
	var out []Breach
	for _, p := range t.Packages {
		i := slices.IndexFunc(p.Files, func(f *File) bool { return f.Name == "doc.go" })
		if i < 0 {
			out = append(out, Breach{p.Dir, "there is no doc.go", do})
			continue
		}
		syntax := p.Files[i].Syntax
		want := "Package " + syntax.Name.Name + " "
		if syntax.Name.Name == "main" {
			want = "Command " + path.Base(p.Dir) + " "
		}
		if got := strings.Join(strings.Fields(syntax.Doc.Text()), " "); !strings.HasPrefix(got, want) {
			out = append(out, Breach{path.Join(p.Dir, "doc.go"),
				fmt.Sprintf("its comment does not begin with %q", want), do})
		}
	}
	return out
}

// vague names say nothing about what is inside.
var vague = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "lib", "types", "base"}

// Names checks that no package has a name that fits everything.
func Names(t *Tree) []Breach {
	var out []Breach
	for _, p := range t.Packages {
		if base := path.Base(p.Dir); slices.Contains(vague, base) {
			out = append(out, Breach{p.Dir, fmt.Sprintf("a package called %q", base),
				"a package has one idea and is named after it; move each piece to the idea that it serves"})
		}
	}
	return out
}
