package filters

import (
	"bytes"
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// A Setting is one key of a table of the policy file.
type Setting struct {
	Key     string // "unpack.ratio" for a key of a table in the table; NAME stands for a name of the author's own
	Value   string // what may stand there, in words: the tag value, the words of the tag words, or made from the type
	Default string // as TOML; empty: there is none
	Doc     string // its tag doc
	Table   bool   // a table, whose keys follow
}

// ValueTables is the Value of a setting that is a list of tables.
const ValueTables = "a list of tables"

// Settings lists the settings of the struct that v points to, in order: fields
// that have a toml tag. A default is what the tag default says, else what stands
// in the struct if its type says what may stand there.
func Settings(v any) []Setting { return settingsOf(reflect.ValueOf(v).Elem(), "") }

func settingsOf(v reflect.Value, prefix string) []Setting {
	var all []Setting
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key, tagged := field.Tag.Lookup("toml")
		if !field.IsExported() || key == "-" {
			continue
		}
		if !tagged {
			key = "(" + field.Name + " has no toml tag)"
		}
		s := Setting{Key: prefix + key, Value: field.Tag.Get("value"), Doc: field.Tag.Get("doc")}
		inner, below := innerTable(v.Field(i))
		if inner.IsValid() && s.Value == "" {
			s.Table, s.Value = true, "a table"
			if field.Type.Kind() == reflect.Slice {
				s.Value, s.Default = ValueTables, "[]"
			}
			all = append(append(all, s), settingsOf(inner, s.Key+below)...)
			continue
		}
		if def, ok := field.Tag.Lookup("default"); ok {
			s.Default = defaultText(field.Type, def)
		} else if s.Value == "" && field.Type.Kind() != reflect.Pointer {
			s.Default = literal(v.Field(i).Interface())
		}
		if s.Value == "" {
			s.Value = valueText(field)
		}
		all = append(all, s)
	}
	return all
}

// innerTable returns the struct whose keys stand in the table v, and what stands
// between the key of v and theirs; no value if v is no table or reads itself.
func innerTable(v reflect.Value) (inner reflect.Value, below string) {
	t := v.Type()
	below = "."
	switch t.Kind() {
	case reflect.Map:
		t, below = t.Elem(), ".NAME."
	case reflect.Slice:
		t = t.Elem()
	}
	p := reflect.PointerTo(t)
	if t.Kind() != reflect.Struct || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[toml.Unmarshaler]()) || !hasKeys(t) {
		return reflect.Value{}, ""
	}
	if t == v.Type() {
		return v, below
	}
	return reflect.New(t).Elem(), below
}

func hasKeys(t reflect.Type) bool {
	for f := range t.Fields() {
		if _, ok := f.Tag.Lookup("toml"); ok {
			return true
		}
	}
	return false
}

// valueText says what may stand in a field.
func valueText(f reflect.StructField) string {
	if words := strings.Fields(f.Tag.Get("words")); len(words) > 0 {
		text := `"` + strings.Join(words, `", "`) + `"`
		if i := strings.LastIndex(text, ", "); i >= 0 {
			text = text[:i] + " or " + text[i+2:]
		}
		return text
	}
	text := typeText(f.Type)
	if least := f.Tag.Get("least"); least != "" && text == "a whole number" {
		text += ", at least " + least
	}
	return text
}

func typeText(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return `a duration, as in "15m"`
	case reflect.TypeFor[Bytes]():
		return `a size, as in "25MB"`
	case reflect.TypeFor[Secret]():
		return `{ credential = "..." }, { file = "..." } or { env = "..." }`
	case reflect.TypeFor[netip.Prefix](), reflect.TypeFor[Network]():
		return "an address or a network"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeText(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		many := map[string]string{"a text": "texts", "an address or a network": "addresses and networks", `a duration, as in "15m"`: `durations, as in "15m"`}
		return "a list of " + many[typeText(t.Elem())]
	case reflect.Map:
		return "a table of texts"
	}
	return "a text"
}

// defaultText writes what a tag default says as the policy file would.
func defaultText(t reflect.Type, def string) string {
	switch t.Kind() {
	case reflect.Bool, reflect.Int:
		return def
	case reflect.Slice:
		return `["` + strings.Join(strings.Fields(def), `", "`) + `"]`
	}
	return `"` + def + `"`
}

// literal writes what a setting holds as the policy file would.
func literal(v any) string {
	var b bytes.Buffer
	if rv := reflect.ValueOf(v); (rv.Kind() == reflect.Slice || rv.Kind() == reflect.Map) && rv.Len() == 0 {
		if rv.Kind() == reflect.Map {
			return "{}"
		}
		return "[]"
	}
	if err := toml.NewEncoder(&b).Encode(map[string]any{"v": v}); err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(b.String(), "v = "))
}
