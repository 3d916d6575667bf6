package filterstest

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"postern/filters"
)

var (
	symbolName = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	filterName = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	keyName    = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	actionName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
)

// checkDeclaration checks that a filter says all that the manual and the
// policy's loader need to know.
func checkDeclaration(t *testing.T, f *filters.Filter) {
	if !filterName.MatchString(f.Name) {
		t.Errorf("%q is not a name for a filter", f.Name)
	}
	if f.Doc == "" || strings.HasSuffix(f.Doc, ".") {
		t.Errorf("the doc %q is not a phrase", f.Doc)
	}
	declared := map[string]bool{}
	for _, s := range f.Symbols {
		if !symbolName.MatchString(s.Name) || declared[s.Name] {
			t.Errorf("symbol %q: not UPPER_SNAKE, or declared twice", s.Name)
		}
		declared[s.Name] = true
		if !sentence(s.Doc) || !sentence(s.DocFR) || s.Doc == s.DocFR {
			t.Errorf("symbol %s: %q and %q are not an English and a French sentence", s.Name, s.Doc, s.DocFR)
		}
	}
	for _, k := range f.Keys {
		checkKey(t, k, declared)
	}
	for _, a := range f.Actions {
		checkAction(t, a)
	}
	if _, rewrites := f.New().(filters.Rewriter); rewrites != (len(f.Actions) > 0) {
		t.Error("a filter that has actions is a Rewriter, and no other")
	}
	_, finishes := f.New().(filters.Finisher)
	if f.NoScan && (len(f.Symbols) > 0 || len(f.Keys) > 0 || len(f.Actions) == 0 && !finishes) {
		t.Error("a filter that only rewrites or finishes has actions, or is a Finisher, and has no symbols")
	}
}

func checkKey(t *testing.T, k filters.MatchKey, declared map[string]bool) {
	t.Helper()
	if !keyName.MatchString(k.Name) || k.Doc == "" {
		t.Errorf("key %q has a bad name or no doc", k.Name)
	}
	for _, say := range k.Say {
		if strings.Count(say, "%s") != 1 || strings.Count(say, "%") != 1 {
			t.Errorf("key %s: the phrase %q has not one %%s", k.Name, say)
		}
	}
	symbols := k.Symbols
	if k.Kind == filters.KeyEnum {
		words := map[string]bool{}
		for _, v := range k.Values {
			if !actionName.MatchString(v.Word) || words[v.Word] || len(v.Symbols) == 0 {
				t.Errorf("key %s: value %q is not a word, given twice, or means nothing", k.Name, v.Word)
			}
			words[v.Word] = true
			symbols = append(symbols, v.Symbols...)
		}
	}
	if len(symbols) == 0 || (k.Kind != filters.KeyEnum) != (len(k.Values) == 0) {
		t.Errorf("key %s rests on no symbols, or has values that its kind does not take", k.Name)
	}
	for _, s := range symbols {
		if !declared[s] {
			t.Errorf("key %s rests on %s, which is not declared", k.Name, s)
		}
	}
}

func checkAction(t *testing.T, a filters.ActionDoc) {
	t.Helper()
	if !actionName.MatchString(a.Name) || a.Doc == "" || a.Say[0] == "" || a.Say[1] == "" || a.Say[0] == a.Say[1] {
		t.Errorf("action %q has a bad name or lacks a doc or phrase", a.Name)
	}
	v := reflect.ValueOf(a.New())
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		t.Fatalf("action %s: settings are a %s, not a pointer to a struct", a.Name, v.Type())
	}
	for _, s := range filters.Settings(a.New()) {
		if s.Doc == "" {
			t.Errorf("action %s: key %s has no doc tag", a.Name, s.Key)
		}
	}
	if err := Decode("no_such_key = 1", a.New()); err == nil {
		t.Errorf("action %s accepts an unknown key", a.Name)
	}
}

func sentence(s string) bool {
	return len(s) > 10 && strings.HasSuffix(s, ".") && strings.ToUpper(s[:1]) == s[:1]
}
