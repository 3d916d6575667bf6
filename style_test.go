package postern_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines = 700
	maxFuncLines = 100
	maxFanOut    = 8
	maxDepth     = 7
)

// longFunctions may be longer than maxFuncLines, each for the reason given: a
// table or a dispatch that would only be harder to read in pieces.
var longFunctions = map[string]string{}

// wide packages may import more than maxFanOut packages of this module.
var wide = map[string]string{
	"cmd/postern":      "wires everything",
	"gateway":          "joins what the others must not know of each other",
	"filters/standard": "is the list of filters: one import a filter",
}

// variables lists the package variables that are neither a table nor a
// sentinel error nor a metric, each with its reason.
var variables = map[string]string{
	"cmd/postern.version": "the linker sets it",
}

// forbiddenFolders are names that say nothing of what is inside.
var forbiddenFolders = []string{
	"internal", "pkg", "util", "utils", "common", "types", "helper", "helpers",
	"misc", "base", "lib", "shared", "manager", "managers",
}

// vagueSuffix matches type names that say nothing of what the type is.
var vagueSuffix = regexp.MustCompile(`(Manager|Helper|Util|Utils|Info|Common)$`)

// unwritten matches the marks of work that was put off.
var unwritten = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

// selfEvident are methods whose interface is their documentation.
var selfEvident = []string{"Error", "Unwrap", "Is", "As", "String", "Len", "Less", "Swap"}

func TestStyleFileLength(t *testing.T) {
	for _, s := range readSources(t) {
		if !s.test && s.lines > maxFileLines {
			t.Errorf("%s has %d lines, at most %d", s.path, s.lines, maxFileLines)
		}
	}
}

func TestStyleFunctionLength(t *testing.T) {
	met := map[string]bool{}
	eachFunc(t, func(s *source, f *ast.FuncDecl, name string) {
		lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
		if lines <= maxFuncLines {
			return
		}
		if met[name] = true; longFunctions[name] == "" {
			t.Errorf("%s: %s has %d lines, at most %d", s.at(f.Pos()), name, lines, maxFuncLines)
		}
	})
	for name := range longFunctions {
		if !met[name] {
			t.Errorf("%s is short now: take it off the list longFunctions", name)
		}
	}
}

func TestStyleNoInit(t *testing.T) {
	eachFunc(t, func(s *source, f *ast.FuncDecl, name string) {
		if f.Recv == nil && f.Name.Name == "init" {
			t.Errorf("%s: init() runs where nobody asked for it", s.at(f.Pos()))
		}
	})
}

func TestStylePackageDoc(t *testing.T) {
	dirs, files := packages(readSources(t))
	for _, dir := range dirs {
		var docs []string
		for _, s := range files[dir] {
			if s.file.Doc != nil {
				docs = append(docs, s.file.Doc.Text())
			}
		}
		switch {
		case len(docs) != 1:
			t.Errorf("%s: %d files have a package comment, want one", dir, len(docs))
		case !strings.Contains(docs[0], "# Diagnostics\n"):
			t.Errorf("%s: the package comment has no section Diagnostics", dir)
		}
	}
}

func TestStyleExportedNamesHaveDocs(t *testing.T) {
	for _, s := range readSources(t) {
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && receiverExported(d) && !slices.Contains(selfEvident, d.Name.Name) {
					t.Errorf("%s: %s has no comment", s.at(d.Pos()), funcName(s, d))
				}
			case *ast.GenDecl:
				undocumented(d, func(name *ast.Ident) {
					t.Errorf("%s: %s has no comment", s.at(name.Pos()), name.Name)
				})
			}
		}
	}
}

// undocumented calls report for each exported name of d that has no comment of
// its own or of its group. The constants of a type that is documented beside
// them need none: the type's comment says what they are.
func undocumented(d *ast.GenDecl, report func(*ast.Ident)) {
	if d.Tok == token.IMPORT || d.Doc != nil {
		return
	}
	typed := false
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil {
				report(spec.Name)
			}
		case *ast.ValueSpec:
			typed = typed && spec.Values == nil || spec.Type != nil
			if spec.Doc != nil || spec.Comment != nil || d.Tok == token.CONST && typed {
				continue
			}
			for _, name := range spec.Names {
				if name.IsExported() {
					report(name)
				}
			}
		}
	}
}

func TestStyleFanOut(t *testing.T) {
	dirs, files := packages(readSources(t))
	for _, dir := range dirs {
		met := map[string]bool{}
		for _, s := range files[dir] {
			for _, to := range s.imports() {
				met[to] = true
			}
		}
		if len(met) > maxFanOut && wide[dir] == "" {
			t.Errorf("%s imports %d packages of this module, at most %d", dir, len(met), maxFanOut)
		}
	}
}

func TestStyleFolders(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || name == "." {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if n := strings.Count(filepath.ToSlash(name), "/") + 1; n > maxDepth {
			t.Errorf("%s is %d folders deep, at most %d", name, n, maxDepth)
		}
		if slices.Contains(forbiddenFolders, d.Name()) {
			t.Errorf("%s: the folder's name says nothing of what is in it", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStyleVariables(t *testing.T) {
	met := map[string]bool{}
	for _, s := range readSources(t) {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				spec := spec.(*ast.ValueSpec)
				if isTable(g, spec) {
					continue
				}
				for _, name := range spec.Names {
					key := s.dir() + "." + name.Name
					if met[key] = true; variables[key] == "" {
						t.Errorf("%s: package variable %s is neither a table nor a sentinel error nor a metric", s.at(name.Pos()), name.Name)
					}
				}
			}
		}
	}
	for key := range variables {
		if !met[key] {
			t.Errorf("%s is not needed any more: take it off the list variables", key)
		}
	}
}

// isTable reports whether a package variable is one that is written once, where
// it stands: a table, a sentinel error, a metric, an embedded file, a compiled
// pattern or an interface that a type is shown to have. A pool of buffers is no
// state either: what lies in it may vanish at any time.
func isTable(g *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, spec.Doc} {
		for i := 0; doc != nil && i < len(doc.List); i++ {
			if strings.HasPrefix(doc.List[i].Text, "//go:embed ") {
				return true
			}
		}
	}
	if spec.Names[0].Name == "_" {
		return true
	}
	if len(spec.Values) == 0 {
		return isPool(spec.Type)
	}
	return !slices.ContainsFunc(spec.Values, func(v ast.Expr) bool { return !isConstant(v) })
}

// isConstant reports whether an expression makes a value that nobody changes
// later, as far as its form tells.
func isConstant(v ast.Expr) bool {
	switch v := v.(type) {
	case *ast.UnaryExpr:
		return isConstant(v.X)
	case *ast.CompositeLit:
		pkg, _ := qualifier(v.Type)
		return pkg != "sync" && pkg != "atomic" || isPool(v.Type)
	case *ast.CallExpr:
		return !isStateful(v)
	case *ast.FuncLit, *ast.SelectorExpr, *ast.IndexExpr:
		return true
	}
	return false
}

// isPool reports whether a type is sync.Pool or an array of them.
func isPool(e ast.Expr) bool {
	if array, ok := e.(*ast.ArrayType); ok {
		e = array.Elt
	}
	pkg, name := qualifier(e)
	return pkg == "sync" && name == "Pool"
}

// isStateful reports whether a call makes something that changes: a map or a
// channel, a counter, a random source.
func isStateful(call *ast.CallExpr) bool {
	if id, ok := call.Fun.(*ast.Ident); ok {
		return id.Name == "make" || id.Name == "new"
	}
	pkg, name := qualifier(call.Fun)
	return pkg == "sync" && !strings.HasPrefix(name, "Once") || pkg == "rand" || pkg == "os" || pkg == "time" && name == "Now"
}

// qualifier splits "pkg.Name" of a selector expression.
func qualifier(e ast.Expr) (pkg, name string) {
	if sel, ok := e.(*ast.SelectorExpr); ok {
		if id, ok := sel.X.(*ast.Ident); ok {
			return id.Name, sel.Sel.Name
		}
	}
	return "", ""
}

func TestStyleTypeNames(t *testing.T) {
	for _, s := range readSources(t) {
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				if name := spec.(*ast.TypeSpec).Name; vagueSuffix.MatchString(name.Name) {
					t.Errorf("%s: type %s: its name says nothing of what it is", s.at(name.Pos()), name.Name)
				}
			}
		}
	}
}

func TestStyleNothingPutOff(t *testing.T) {
	for _, s := range readSources(t) {
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if unwritten.MatchString(c.Text) {
					t.Errorf("%s: a comment promises later work", s.at(c.Pos()))
				}
			}
		}
	}
}

// eachFunc calls f for every function and method outside tests.
func eachFunc(t *testing.T, f func(s *source, decl *ast.FuncDecl, name string)) {
	t.Helper()
	for _, s := range readSources(t) {
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			if decl, ok := d.(*ast.FuncDecl); ok {
				f(s, decl, funcName(s, decl))
			}
		}
	}
}

// funcName returns "folder.Func" or "folder.Type.Method".
func funcName(s *source, f *ast.FuncDecl) string {
	if r := receiver(f); r != "" {
		return s.dir() + "." + r + "." + f.Name.Name
	}
	return s.dir() + "." + f.Name.Name
}

// receiver returns the name of the type that f is a method of, or "".
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	e := f.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// receiverExported reports whether f is a function, or a method of an exported
// type.
func receiverExported(f *ast.FuncDecl) bool {
	r := receiver(f)
	return r == "" || ast.IsExported(r)
}
