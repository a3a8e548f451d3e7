package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// Inits checks that nothing that ships has an init function.
func Inits(t *Tree) []Breach {
	var out []Breach
	for _, p := range t.Packages {
		for _, f := range p.written() {
			for _, decl := range f.Syntax.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					out = append(out, Breach{t.at(fn), "an init function",
						"nothing happens because a package is imported: do it in New, or compute the value where it is declared"})
				}
			}
		}
	}
	return out
}

// Variables checks that what ships keeps no state in package variables: none
// of a kind that is there to change, and none that any code of the tree changes.
// What happens through a copied map, slice or pointer it does not see.
func Variables(t *Tree) []Breach {
	const do = "no state in package variables: make it a field of the value that owns it, a parameter, or a constant"
	changed := changes(t)
	var out []Breach
	for _, p := range t.Packages {
		for _, f := range p.written() {
			for _, spec := range packageVars(f.Syntax) {
				for i, name := range spec.Names {
					if name.Name == "_" {
						continue // an assertion that a type has an interface's methods
					}
					if kind := changing(spec, i); kind != "" {
						out = append(out, Breach{t.at(name), fmt.Sprintf("package variable %s is %s", name.Name, kind), do})
					}
					for _, where := range changed[variable{p.Dir, name.Name}] {
						out = append(out, Breach{where, fmt.Sprintf("changes the package variable %s", name.Name), do})
					}
				}
			}
		}
	}
	return out
}

func packageVars(syntax *ast.File) []*ast.ValueSpec {
	var out []*ast.ValueSpec
	for _, decl := range syntax.Decls {
		if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.VAR {
			for _, spec := range gen.Specs {
				out = append(out, spec.(*ast.ValueSpec))
			}
		}
	}
	return out
}

// changing says in what way the i-th variable of spec is there to change, or "".
func changing(spec *ast.ValueSpec, i int) string {
	if spec.Type != nil {
		if s := selector(spec.Type); stateful(s) {
			return "of type " + s
		}
		if _, ok := spec.Type.(*ast.ChanType); ok {
			return "a channel"
		}
	}
	if i >= len(spec.Values) {
		return ""
	}
	switch v := spec.Values[i].(type) {
	case *ast.CompositeLit:
		if s := selector(v.Type); stateful(s) {
			return "of type " + s
		}
	case *ast.UnaryExpr:
		if v.Op == token.AND {
			return "a pointer that is shared by all"
		}
	case *ast.CallExpr:
		switch s := selector(v.Fun); {
		case s == "make", s == "new":
			return "made to be filled"
		case stateful(s), strings.HasPrefix(s, "prometheus."), strings.HasPrefix(s, "promauto."):
			return "a default instance (" + s + ")"
		}
	}
	return ""
}

// stateful reports whether s names something of a package that is about
// sharing state. A value computed at its first use (sync.OnceValue) is none.
func stateful(s string) bool {
	switch s {
	case "sync.OnceFunc", "sync.OnceValue", "sync.OnceValues":
		return false
	}
	return strings.HasPrefix(s, "sync.") || strings.HasPrefix(s, "atomic.")
}

// selector renders "name" or "pkg.Name", looking through type arguments; other
// expressions are "".
func selector(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
	case *ast.IndexExpr:
		return selector(e.X)
	case *ast.StarExpr:
		return selector(e.X)
	}
	return ""
}

// variable names a package variable.
type variable struct{ dir, name string }

// changes finds the places, tests included, that assign to a package variable
// or to a part of it, delete from it, or take its address.
func changes(t *Tree) map[variable][]string {
	out := map[variable][]string{}
	for _, p := range t.Packages {
		uses := resolve(t, p)
		note := func(n ast.Node, target ast.Expr) {
			if v, ok := packageVariable(uses, p.Dir, target); ok {
				out[v] = append(out[v], t.at(n))
			}
		}
		for _, f := range p.Files {
			if f.Generated {
				continue
			}
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.AssignStmt:
					for _, lhs := range n.Lhs {
						note(n, lhs)
					}
				case *ast.IncDecStmt:
					note(n, n.X)
				case *ast.UnaryExpr:
					if n.Op == token.AND {
						note(n, n.X)
					}
				case *ast.CallExpr:
					if s := selector(n.Fun); (s == "delete" || s == "clear" || s == "copy") && len(n.Args) > 0 {
						note(n, n.Args[0])
					}
				}
				return true
			})
		}
	}
	return out
}

// resolve says what each name of p refers to, as far as p alone tells: the
// packages that it imports are taken as empty, and errors are of no interest.
func resolve(t *Tree, p *Package) map[*ast.Ident]types.Object {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	byName := map[string][]*ast.File{} // p and p_test
	for _, f := range p.Files {
		byName[f.Syntax.Name.Name] = append(byName[f.Syntax.Name.Name], f.Syntax)
	}
	for name, files := range byName {
		config := types.Config{
			Importer:                 nothing{},
			Error:                    func(error) {},
			DisableUnusedImportCheck: true,
		}
		dir := p.Dir
		if strings.HasSuffix(name, "_test") {
			dir += "_test"
		}
		_, _ = config.Check(dir, t.Fset, files, info) // it reports what it does not know of imports
	}
	return info.Uses
}

// nothing imports no package.
type nothing struct{}

func (nothing) Import(path string) (*types.Package, error) { return nil, fmt.Errorf("no %s", path) }

// packageVariable returns the package variable that e is or is a part of.
func packageVariable(uses map[*ast.Ident]types.Object, dir string, e ast.Expr) (variable, bool) {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			v, ok := uses[x].(*types.Var)
			if !ok || v.Pkg() == nil || v.Parent() != v.Pkg().Scope() || v.Pkg().Path() != dir {
				return variable{}, false
			}
			return variable{dir, x.Name}, true
		case *ast.SelectorExpr:
			if id, ok := x.X.(*ast.Ident); ok {
				if pkg, ok := uses[id].(*types.PkgName); ok {
					other, ok := local(pkg.Imported().Path())
					return variable{other, x.Sel.Name}, ok
				}
			}
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return variable{}, false
		}
	}
}
