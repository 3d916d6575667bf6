// Package headers changes header fields: it tags the subject, adds fields and
// removes fields. Every byte of the message but these fields stays as it is.
//
// # Diagnostics
//
// A message that cannot be read is an error, so that its copy is held or
// deferred.
package headers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"postern/filters"
	"postern/mail"
)

// Filter declares the headers filter.
var Filter = &filters.Filter{
	Name:   "headers",
	Doc:    "tags the subject, adds header fields and removes them",
	Stage:  filters.Data,
	NoScan: true,
	Actions: []filters.ActionDoc{
		{
			Name: "tag",
			Doc:  "puts a prefix before the subject, unless it is there already, and sets header fields",
			Say:  [2]string{"tag it", "le marquer"},
			New:  func() any { return &Tag{} },
		},
		{
			Name: "add-header",
			Doc:  "adds header fields on top, whatever fields of these names are there",
			Say:  [2]string{"add header fields", "ajouter des champs d’en-tête"},
			New:  func() any { return &Add{} },
		},
		{
			Name: "remove-header",
			Doc:  "removes every header field of the given names",
			Say:  [2]string{"remove header fields", "supprimer des champs d’en-tête"},
			New:  func() any { return &Remove{} },
		},
	},
	New: func() filters.Checker { return &Checker{} },
}

// Tag holds the keys of the action tag.
type Tag struct {
	Subject string            `toml:"subject" doc:"prefix for the subject, with the space that shall follow it"`
	Headers map[string]string `toml:"headers" doc:"fields to set: one of that name that is there already is removed"`
}

// Validate checks the keys.
func (t *Tag) Validate() error {
	if t.Subject == "" && len(t.Headers) == 0 {
		return &filters.SettingError{Key: "subject", Err: fmt.Errorf("a tag needs a subject prefix or headers")}
	}
	if !printable(t.Subject) || len(t.Subject) > 100 {
		return &filters.SettingError{Key: "subject", Err: fmt.Errorf("a prefix has at most 100 bytes and no control characters")}
	}
	return checkFields(t.Headers)
}

// Add holds the keys of the action add-header.
type Add struct {
	Headers map[string]string `toml:"headers" doc:"fields to add"`
}

// Validate checks the keys.
func (a *Add) Validate() error {
	if len(a.Headers) == 0 {
		return &filters.SettingError{Key: "headers", Err: fmt.Errorf("there is no field to add")}
	}
	return checkFields(a.Headers)
}

// Remove holds the keys of the action remove-header.
type Remove struct {
	Headers []string `toml:"headers" doc:"names of the fields to remove"`
}

// Validate checks the keys.
func (r *Remove) Validate() error {
	if len(r.Headers) == 0 {
		return &filters.SettingError{Key: "headers", Err: fmt.Errorf("there is no field to remove")}
	}
	for _, name := range r.Headers {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// reserved are the fields that say what a message is, who wrote it and how it
// came: a rule may neither set nor remove them.
var reserved = []string{
	"from", "sender", "to", "cc", "bcc", "date", "message-id", "subject", "received", "return-path", "mime-version",
	"content-type", "content-transfer-encoding", "content-disposition", "dkim-signature", "authentication-results",
}

func checkFields(fields map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := checkName(name); err != nil {
			return err
		}
		if v := fields[name]; !printable(v) || len(v) > 2000 {
			return &filters.SettingError{Key: "headers", Err: fmt.Errorf("the value of %s has control characters or is too long", name)}
		}
	}
	return nil
}

// checkName checks a field name (RFC 5322 section 3.6.8).
func checkName(name string) error {
	bad := name == "" || len(name) > 76
	for i := 0; i < len(name); i++ {
		bad = bad || name[i] <= ' ' || name[i] > '~' || name[i] == ':'
	}
	switch {
	case bad:
		return &filters.SettingError{Key: "headers", Err: fmt.Errorf("%q is not the name of a header field", name)}
	case slices.Contains(reserved, strings.ToLower(name)):
		return &filters.SettingError{Key: "headers", Err: fmt.Errorf("%s is not for a rule to change", name)}
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Checker has no settings.
type Checker struct{}

// Check has nothing to say.
func (*Checker) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

// Rewrite performs an action.
func (*Checker) Rewrite(_ context.Context, in filters.RewriteInput) (*mail.Message, error) {
	e := in.Message.Edit()
	switch with := in.With.(type) {
	case *Tag:
		for name := range with.Headers {
			e.RemoveAll(name)
		}
		e.Prepend(fields(with.Headers)...)
		if with.Subject != "" {
			tagSubject(in.Message, e, with.Subject)
		}
	case *Add:
		e.Prepend(fields(with.Headers)...)
	case *Remove:
		for _, name := range with.Headers {
			e.RemoveAll(name)
		}
	default:
		return nil, fmt.Errorf("%T are not settings of the action %s", in.With, in.Action)
	}
	return e.Message()
}

// fields writes fields in the order of their names.
func fields(of map[string]string) []string {
	all := make([]string, 0, len(of))
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, mail.FoldField(name, of[name]))
	}
	return all
}
