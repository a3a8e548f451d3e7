package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	faultPage = "docs/faults.md"
	lastFault = 50
)

// Faults checks the page of faults against the tests: every test that a row names is there, and a
// fault that the comment of a test names has a row.
func Faults(t *Tree) []Breach {
	rows, out := t.faultRows()
	tests := t.tests()
	for _, row := range rows {
		for _, test := range row.tests {
			if !tests[test] {
				out = append(out, Breach{row.where, fmt.Sprintf("fault %d names %s, which is no test of the tree", row.fault, test),
					"the page says which tests show what: name the one that took its place, in its package"})
			}
		}
		if len(row.tests) == 0 {
			out = append(out, Breach{row.where, fmt.Sprintf("fault %d names no test", row.fault),
				"a row has tests, as `package` `TestName`; leave out what has none yet"})
		}
	}
	for _, p := range t.everywhere() {
		for _, f := range p.Files {
			for _, fn := range f.tests() {
				for _, fault := range faultsIn(fn.Doc.Text()) {
					if !slices.ContainsFunc(rows, func(r faultRow) bool { return r.fault == fault }) {
						out = append(out, Breach{t.at(fn), fmt.Sprintf("%s is about fault %d, which %s does not have", fn.Name.Name, fault, faultPage),
							"give the fault a row: what happens, what Skep does, and this test"})
					}
				}
			}
		}
	}
	return out
}

// faultRow is a row of the page.
type faultRow struct {
	where string
	fault int
	tests []string // "package.Test"
}

// faultRows reads the rows of the page, which begin with a number.
func (t *Tree) faultRows() (rows []faultRow, out []Breach) {
	quoted := regexp.MustCompile("`([^`]+)`")
	for i, line := range strings.Split(t.Pages[faultPage], "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		fault, err := strconv.Atoi(strings.TrimSpace(cells[0]))
		if err != nil {
			continue
		}
		row := faultRow{where: fmt.Sprintf("%s:%d", faultPage, i+1), fault: fault}
		if fault < 1 || fault > lastFault || slices.ContainsFunc(rows, func(r faultRow) bool { return r.fault == fault }) || len(cells) != 4 {
			out = append(out, Breach{row.where, fmt.Sprintf("a row for fault %d of %d cells", fault, len(cells)),
				fmt.Sprintf("a fault from 1 to %d has one row: number, what happens, what Skep does, tests", lastFault)})
			continue
		}
		dir := ""
		for _, q := range quoted.FindAllStringSubmatch(cells[3], -1) {
			if isTest(q[1]) {
				row.tests = append(row.tests, dir+"."+q[1])
			} else {
				dir = q[1]
			}
		}
		rows = append(rows, row)
	}
	return rows, out
}

// everywhere are the packages of all modules.
func (t *Tree) everywhere() []*Package {
	return append(slices.Clone(t.Packages), t.Elsewhere...)
}

// tests are all tests of the tree, as "package.Test".
func (t *Tree) tests() map[string]bool {
	out := map[string]bool{}
	for _, p := range t.everywhere() {
		for _, f := range p.Files {
			for _, fn := range f.tests() {
				out[p.Dir+"."+fn.Name.Name] = true
			}
		}
	}
	return out
}

// tests are the tests in a file.
func (f *File) tests() []*ast.FuncDecl {
	var out []*ast.FuncDecl
	for _, d := range f.Syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && f.Test && fn.Recv == nil && isTest(fn.Name.Name) {
			out = append(out, fn)
		}
	}
	return out
}

func isTest(name string) bool {
	base := path.Base(name)
	return base == name && (strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz"))
}

// faultsIn returns the faults that a comment says it is about: "Fault 7 …", "Faults 1, 14 and 20 …",
// "… is fault 48".
func faultsIn(comment string) []int {
	var out []int
	list := regexp.MustCompile(`\b[Ff]aults?\s+(\d+(?:(?:,\s*|\s+and\s+|,\s+and\s+)\d+)*)`)
	for _, found := range list.FindAllStringSubmatch(comment, -1) {
		for _, number := range regexp.MustCompile(`\d+`).FindAllString(found[1], -1) {
			if n, err := strconv.Atoi(number); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}
