package archtest

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the import path of the tree's root.
const module = "skep"

// Tree is the hand-written and generated Go of the main module, with what is written about it.
type Tree struct {
	Fset     *token.FileSet
	Packages []*Package // sorted by Dir
	// Elsewhere are the packages of modules of their own below the root: their tests alone.
	Elsewhere []*Package
	// Pages are the pages of docs/ that are held against the tree, by name.
	Pages map[string]string
}

// Package is a directory that holds Go files.
type Package struct {
	Dir   string // relative to the root, with slashes; "." is the root
	Files []*File
}

// File is one parsed Go file.
type File struct {
	Name      string // base name
	Syntax    *ast.File
	Test      bool // its name ends in _test.go
	Generated bool // it says so in its header
}

// Breach is one place where the tree does not keep a rule.
type Breach struct {
	Where string // "dir/file.go:12", or a directory
	What  string // what is wrong there
	Do    string // the rule, and how to keep it
}

func (b Breach) String() string { return b.Where + ": " + b.What + "\n\t" + b.Do }

// Load parses every Go file below the root of fsys, whatever its build
// constraints, but for hidden directories and testdata, and of modules of their own
// the tests.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{Fset: token.NewFileSet(), Pages: map[string]string{}}
	if page, err := fs.ReadFile(fsys, faultPage); err == nil {
		t.Pages[faultPage] = string(page)
	}
	byDir := map[string]*Package{}
	other := "" // the module that name is in, if it is not the main one
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(name, other+"/") {
			other = ""
		}
		switch {
		case d.IsDir() && hidden(name):
			return fs.SkipDir
		case d.IsDir():
			if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil && name != "." {
				other = name
			}
			return nil
		case path.Ext(name) != ".go", other != "" && !isTestFile(name):
			return nil
		}
		f, err := t.parse(fsys, name)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			byDir[dir] = &Package{Dir: dir}
			if other == "" {
				t.Packages = append(t.Packages, byDir[dir])
			} else {
				t.Elsewhere = append(t.Elsewhere, byDir[dir])
			}
		}
		byDir[dir].Files = append(byDir[dir].Files, f)
		return nil
	})
	for _, packages := range [][]*Package{t.Packages, t.Elsewhere} {
		slices.SortFunc(packages, func(a, b *Package) int { return cmp.Compare(a.Dir, b.Dir) })
	}
	return t, err
}

// hidden reports whether a directory is no part of any module.
func hidden(dir string) bool {
	base := path.Base(dir)
	return dir != "." && (base == "testdata" || base[0] == '.' || base[0] == '_')
}

func isTestFile(name string) bool { return strings.HasSuffix(name, "_test.go") }

func (t *Tree) parse(fsys fs.FS, name string) (*File, error) {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	syntax, err := parser.ParseFile(t.Fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return &File{
		Name:      path.Base(name),
		Syntax:    syntax,
		Test:      isTestFile(name),
		Generated: ast.IsGenerated(syntax),
	}, nil
}

// at says where a node stands, as file and line.
func (t *Tree) at(n ast.Node) string {
	p := t.Fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// written returns the files of p that people wrote and that ship: neither
// tests nor generated.
func (p *Package) written() []*File {
	return slices.DeleteFunc(slices.Clone(p.Files), func(f *File) bool { return f.Test || f.Generated })
}

// ships reports whether p has files that are no tests.
func (p *Package) ships() bool {
	return slices.ContainsFunc(p.Files, func(f *File) bool { return !f.Test })
}

// importPath returns what an import declaration imports.
func importPath(spec *ast.ImportSpec) string {
	p, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
	return p
}

// local returns the directory of an import of this module.
func local(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// nameOf returns the name under which f imports the package at importPath, or
// "" when it does not.
func (f *File) nameOf(importPathWanted string) string {
	for _, spec := range f.Syntax.Imports {
		if importPath(spec) != importPathWanted {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importPathWanted)
	}
	return ""
}

// calls reports whether n is a call of name in the package that f knows as pkg.
func calls(n ast.Node, pkg, name string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || pkg == "" {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}
