package policy

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"postern/filters"
)

// A decoder fills Go values from nodes and goes on after a mistake, so that
// every mistake is told at once. Struct tags say what it needs to know:
//
//	toml:"name"      the key
//	words:"a b"      the words that a string may be
//	default:"15m"    the value when the key is absent
//	least:"1"        the least number
//	doc:"..."        what it means, for the reference
//	value:"..."      what may stand there, for the reference, where the type does not say it
type decoder struct {
	log        *problemLog
	secret     func(n *node, where string) Secret
	conditions func() []string // the keys of match
	shapes     map[reflect.Type]*shape
}

// A shape is what a decoder knows about a struct type.
type shape struct {
	fields []field
	names  []string
}

type field struct {
	name  string
	index []int
	words []string
	def   string
	has   bool // there is a default
	least string
}

var (
	typeSecret       = reflect.TypeFor[Secret]()
	typeNode         = reflect.TypeFor[*node]()
	typePrefix       = reflect.TypeFor[netip.Prefix]()
	typeDuration     = reflect.TypeFor[time.Duration]()
	typeText         = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeTOML         = reflect.TypeFor[toml.Unmarshaler]()
	typeFilterSecret = reflect.TypeFor[filters.Secret]()
)

func (d *decoder) shape(t reflect.Type) *shape {
	if s := d.shapes[t]; s != nil {
		return s
	}
	s := &shape{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		if name == "" && f.IsExported() && !f.Anonymous {
			name = f.Name
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		def, has := f.Tag.Lookup("default")
		s.fields = append(s.fields, field{
			name: name, index: f.Index, words: strings.Fields(f.Tag.Get("words")), def: def, has: has, least: f.Tag.Get("least"),
		})
		s.names = append(s.names, name)
	}
	if d.shapes == nil {
		d.shapes = map[reflect.Type]*shape{}
	}
	d.shapes[t] = s
	return s
}

// table fills the struct v points to. Keys that are neither fields nor in
// others are mistakes.
func (d *decoder) table(n *node, v any, where string, others ...string) {
	d.fill(n, reflect.ValueOf(v).Elem(), where, others)
}

func (d *decoder) fill(n *node, v reflect.Value, where string, others []string) {
	s := d.shape(v.Type())
	if n != nil && n.kind != tableNode {
		d.log.value(n, "%s must be a table", where)
		return
	}
	for _, f := range s.fields {
		target := v.FieldByIndex(f.index)
		switch c := n.child(f.name); {
		case c != nil:
			d.field(c, target, &f, where)
		case f.has:
			d.setDefault(target, f.def)
		case target.Kind() == reflect.Struct && !reflect.PointerTo(target.Type()).Implements(typeText):
			d.fill(nil, target, where, nil)
		}
	}
	if n == nil {
		return
	}
	for _, e := range n.entries {
		if !contains(s.names, e.key) && !contains(others, e.key) {
			d.unknownKey(e, where, slices.Concat(s.names, others))
		}
	}
}

// unknownKey blames a key that is none of those known.
func (d *decoder) unknownKey(n *node, where string, known []string) {
	path := n.key
	if where != "" {
		path = where + "." + n.key
	}
	if why, ok := notBuiltYet(path); ok {
		d.log.key(n, "%s is not built into this version of postern%s", path, why)
		return
	}
	in := ""
	switch {
	case where == "":
	case n.key == "mode" || n.key == "version":
		d.log.key(n, "%s belongs at the top of the file, before the first table: here it is a key of %s", n.key, where)
		return
	case where == "rule" && contains(d.conditions(), n.key):
		d.log.key(n, "%s is a condition: write it as in match = { %s = ... }", n.key, n.key)
		return
	default:
		in = " in " + where
	}
	slices.Sort(known) // the same words for each reader of a table that two read
	d.log.word(n, true, n.key, fmt.Sprintf("unknown key %q%s", n.key, in), known)
}

// notBuiltYet looks a key up in the table of what is not built; * there stands
// for a name.
func notBuiltYet(path string) (why string, ok bool) {
	if why, ok = notBuilt[path]; ok {
		return why, true
	}
	parts := strings.Split(path, ".")
	if len(parts) > 2 {
		parts[len(parts)-2] = "*"
	}
	why, ok = notBuilt[strings.Join(parts, ".")]
	return why, ok
}

// field fills one field and checks its words and bounds.
func (d *decoder) field(n *node, v reflect.Value, f *field, where string) {
	before := len(d.log.list)
	d.into(n, v, joinKey(where, f.name))
	if len(d.log.list) > before || len(f.words) == 0 && f.least == "" {
		return
	}
	switch {
	case len(f.words) > 0 && v.Kind() == reflect.String:
		d.words(n, v.String(), joinKey(where, f.name), f.words)
	case len(f.words) > 0 && v.Kind() == reflect.Slice:
		for i, item := range n.entries {
			d.words(item, v.Index(i).String(), joinKey(where, f.name), f.words)
		}
	case f.least != "":
		least, _ := strconv.ParseInt(f.least, 10, 64)
		if v.CanInt() && v.Int() < least {
			d.log.value(n, "%s must be at least %s", joinKey(where, f.name), leastText(v, least))
		}
	}
}

// leastText writes the least value of a field in the units of its type.
func leastText(v reflect.Value, least int64) string {
	switch v.Interface().(type) {
	case Duration:
		return "1ms"
	case Bytes:
		return Bytes(least).String()
	}
	return strconv.FormatInt(least, 10)
}

// words blames a word that is none of those known.
func (d *decoder) words(n *node, word, where string, known []string) {
	if contains(known, word) {
		return
	}
	for prefix, what := range notBuiltWords[where] {
		if strings.HasPrefix(word, prefix) {
			d.log.value(n, "%s = %q: %s is not built into this version of postern", where, word, what)
			return
		}
	}
	d.log.word(n, false, word, fmt.Sprintf("%s: %q is not one of its words", where, word), known)
}

func joinKey(where, key string) string {
	if where == "" {
		return key
	}
	return where + "." + key
}

// into fills v, of any type, from n.
func (d *decoder) into(n *node, v reflect.Value, where string) {
	t := v.Type()
	switch {
	case t == typeNode:
		v.Set(reflect.ValueOf(n))
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		d.into(n, v.Elem(), where)
	case t == typeSecret:
		v.Set(reflect.ValueOf(d.secret(n, where)))
	case t == typePrefix:
		d.text(n, where, func(s string) error {
			p, err := parseNetwork(s)
			v.Set(reflect.ValueOf(p))
			return err
		})
	case t == typeDuration:
		d.text(n, where, func(s string) error {
			var span Duration
			err := span.UnmarshalText([]byte(s))
			v.SetInt(int64(span))
			return err
		})
	case reflect.PointerTo(t).Implements(typeTOML):
		if t == typeFilterSecret && !d.secretKeys(n, where) {
			return
		}
		if err := v.Addr().Interface().(toml.Unmarshaler).UnmarshalTOML(n.plain()); err != nil {
			d.blame(n, "", where, err)
		}
	case reflect.PointerTo(t).Implements(typeText):
		d.text(n, where, func(s string) error {
			return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
		})
	case t.Kind() == reflect.Struct:
		d.fill(n, v, where, nil)
	case t.Kind() == reflect.Slice:
		d.slice(n, v, where)
	case t.Kind() == reflect.Map:
		d.dict(n, v, where)
	default:
		d.scalar(n, v, where)
	}
}

// text hands a string to a type that reads itself.
func (d *decoder) text(n *node, where string, read func(string) error) {
	s, ok := n.value.(string)
	if t, is := n.value.(time.Time); is {
		layout := time.RFC3339
		if strings.HasSuffix(t.Location().String(), "-local") { // how the TOML library says that no zone was named
			layout = "2006-01-02T15:04:05"
		}
		s, ok = t.Format(layout), true
	}
	if !ok || n.kind != scalarNode {
		if err := read(fmt.Sprint(n.value)); err != nil && n.kind == scalarNode {
			d.blame(n, fmt.Sprint(n.value), where, err) // it says how the value is written
			return
		}
		d.log.value(n, "%s must be a string in quotes", where)
		return
	}
	if err := read(s); err != nil {
		d.blame(n, s, where, err)
	}
}

var quotedWord = regexp.MustCompile(`"([a-z0-9_.-]+)"`)

// blame turns an error of a type or of a filter into a problem. The words that
// the error quotes are those that may have been meant.
func (d *decoder) blame(n *node, value, where string, err error) {
	var we *wordError
	if errors.As(err, &we) {
		d.log.word(n, false, we.Word, where+": "+we.Text, we.Known)
		return
	}
	var known []string
	for _, m := range quotedWord.FindAllStringSubmatch(err.Error(), -1) {
		if m[1] != value {
			known = append(known, m[1])
		}
	}
	near := nearest(value, known)
	if upper := strings.ToUpper(value); upper != value && new(Bytes).UnmarshalText([]byte(upper)) == nil {
		near = upper // a size has units in capital letters
	}
	d.log.at(Error, n, false, near, where+": "+err.Error())
}

func (d *decoder) slice(n *node, v reflect.Value, where string) {
	if n.kind != arrayNode {
		d.log.value(n, "%s must be a list in [ ]", where)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.entries), len(n.entries))
	for i, e := range n.entries {
		d.into(e, list.Index(i), where)
	}
	v.Set(list)
}

func (d *decoder) dict(n *node, v reflect.Value, where string) {
	if n.kind != tableNode || v.Type().Key().Kind() != reflect.String {
		d.log.value(n, "%s must be a table", where)
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.entries))
	for _, e := range n.entries {
		item := reflect.New(v.Type().Elem()).Elem()
		d.into(e, item, joinKey(where, e.key))
		m.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), item)
	}
	v.Set(m)
}

// scalar fills strings, numbers and booleans.
func (d *decoder) scalar(n *node, v reflect.Value, where string) {
	wrong := func(want string) { d.log.value(n, "%s must be %s", where, want) }
	switch v.Kind() {
	case reflect.String:
		s, ok := n.value.(string)
		if !ok {
			wrong("a string in quotes")
			return
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := n.value.(bool)
		if !ok {
			wrong("true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, ok := n.value.(int64)
		if !ok || v.OverflowInt(i) {
			wrong("a whole number")
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, ok := n.value.(int64)
		if !ok || i < 0 || v.OverflowUint(uint64(i)) {
			wrong("a whole number that is not negative")
			return
		}
		v.SetUint(uint64(i))
	case reflect.Float32, reflect.Float64:
		f, ok := n.value.(float64)
		if i, is := n.value.(int64); is {
			f, ok = float64(i), true
		}
		if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
			wrong("a number")
			return
		}
		v.SetFloat(f)
	case reflect.Interface:
		v.Set(reflect.ValueOf(n.plain()))
	default:
		wrong("something that this program can hold: it has a setting of type " + v.Type().String())
	}
}

// setDefault fills v from the text of a default tag, which a test checks.
func (d *decoder) setDefault(v reflect.Value, def string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		_ = u.UnmarshalText([]byte(def))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(def)
	case reflect.Bool:
		v.SetBool(def == "true")
	case reflect.Slice:
		words := strings.Fields(def)
		list := reflect.MakeSlice(v.Type(), len(words), len(words))
		for i, w := range words {
			d.setDefault(list.Index(i), w)
		}
		v.Set(list)
	default:
		i, _ := strconv.ParseInt(def, 10, 64)
		v.SetInt(i)
	}
}

// plain returns what the node holds as maps, slices and scalars.
func (n *node) plain() any {
	switch n.kind {
	case tableNode:
		m := make(map[string]any, len(n.entries))
		for _, e := range n.entries {
			m[e.key] = e.plain()
		}
		return m
	case arrayNode:
		list := make([]any, len(n.entries))
		for i, e := range n.entries {
			list[i] = e.plain()
		}
		return list
	default:
		return n.value
	}
}

// secretKeys checks the keys of a filter's secret, so that a wrong one has a
// suggestion.
func (d *decoder) secretKeys(n *node, where string) bool {
	known := []string{"file", "credential", "env"}
	good := true
	for _, e := range n.entries {
		if n.kind == tableNode && !contains(known, e.key) {
			d.log.word(e, true, e.key, fmt.Sprintf("unknown key %q in %s", e.key, where), known)
			good = false
		}
	}
	return good
}
