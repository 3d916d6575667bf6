package postern_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "postern"

// A source is one Go file of the repository. Path is relative to the root, with
// slashes.
type source struct {
	path  string
	lines int
	test  bool
	file  *ast.File
	fset  *token.FileSet
}

// dir returns the folder of the file: "filters/virus".
func (s *source) dir() string { return path.Dir(s.path) }

// at returns "path:line" of a position, for messages.
func (s *source) at(p token.Pos) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(p).Line)
}

// imports returns the folders of the packages of this module that the file
// imports.
func (s *source) imports() []string {
	var dirs []string
	for _, spec := range s.file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err == nil && strings.HasPrefix(name, module+"/") {
			dirs = append(dirs, strings.TrimPrefix(name, module+"/"))
		}
	}
	return dirs
}

// readSources returns every Go file below the root, in the order of their
// paths. It reads the folder and not the history, so that it says the same
// before and after a commit. The root's own files are tests only, and tools/ is
// a module of its own.
func readSources(t *testing.T) []*source {
	t.Helper()
	all, err := parseAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go file found: the test must run in the root of the repository")
	}
	return all
}

// parseAll parses the files once for all tests.
var parseAll = sync.OnceValues(func() (all []*source, err error) {
	fset := token.NewFileSet()
	err = filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "tools") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || filepath.Dir(name) == "." {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, &source{
			path:  filepath.ToSlash(name),
			lines: strings.Count(string(text), "\n"),
			test:  strings.HasSuffix(base, "_test.go"),
			file:  file,
			fset:  fset,
		})
		return nil
	})
	return all, err
})

// packages groups the files that are not tests by folder.
func packages(all []*source) (dirs []string, files map[string][]*source) {
	files = map[string][]*source{}
	for _, s := range all {
		if s.test {
			continue
		}
		if files[s.dir()] == nil {
			dirs = append(dirs, s.dir())
		}
		files[s.dir()] = append(files[s.dir()], s)
	}
	sort.Strings(dirs)
	return dirs, files
}
