// Package disclaimer adds a text to the bodies of a message, such as the legal
// notice of a company.
//
// Only the first plain and the first HTML body are encoded anew; attachments
// and attached messages stay as they are. A message that is signed or encrypted
// is never touched: it gets the header field X-Postern-Disclaimer, which says
// why the text is missing.
//
// # Diagnostics
//
// A message that cannot be read is an error, so that its copy is held or
// deferred. A body that cannot take the text is not: see above.
package disclaimer

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"strings"

	"postern/filters"
	"postern/mail"
)

// Field is the header field of a message that could not take the text.
const Field = "X-Postern-Disclaimer"

// maxText is how long a text may be.
const maxText = 64 << 10

// Filter declares the disclaimer filter.
var Filter = &filters.Filter{
	Name:   "disclaimer",
	Doc:    "adds a text to the bodies of messages",
	Stage:  filters.Data,
	NoScan: true,
	Actions: []filters.ActionDoc{{
		Name:      "disclaimer",
		Doc:       "adds a text above or below the body, plain and HTML, unless the message is signed, encrypted or has it already",
		Say:       [2]string{"add the disclaimer", "ajouter la mention légale"},
		SparesOwn: true,
		New:       func() any { return &Action{Position: Bottom} },
	}},
	New: func() filters.Checker { return &Checker{} },
}

// A Position says where the text goes.
type Position string

const (
	Bottom Position = "bottom"
	Top    Position = "top"
)

// UnmarshalText reads the word of the policy file.
func (p *Position) UnmarshalText(b []byte) error {
	switch v := Position(b); v {
	case Bottom, Top:
		*p = v
		return nil
	}
	return fmt.Errorf("%q is not %q or %q", b, Bottom, Top)
}

// Action holds the keys of the action disclaimer.
type Action struct {
	Text     string   `toml:"text" doc:"the text; empty: that of the filter"`
	HTML     string   `toml:"html" doc:"the text in HTML; empty: that of the filter, else made from the text"`
	Position Position `toml:"position" doc:"\"bottom\" or \"top\""`
}

// Checker holds the settings of [filter.disclaimer].
type Checker struct {
	Text     string `toml:"text" doc:"the text that rules add when they give none"`
	HTML     string `toml:"html" doc:"the same in HTML; empty: made from the text"`
	TextFile string `toml:"text_file" doc:"file to read the text from, when the policy is loaded"`
	HTMLFile string `toml:"html_file" doc:"file to read the HTML from"`
}

// Validate checks the settings.
func (c *Checker) Validate() error {
	switch {
	case c.Text != "" && c.TextFile != "":
		return &filters.SettingError{Key: "text_file", Err: errors.New("text is set too")}
	case c.HTML != "" && c.HTMLFile != "":
		return &filters.SettingError{Key: "html_file", Err: errors.New("html is set too")}
	case len(c.Text) > maxText:
		return &filters.SettingError{Key: "text", Err: fmt.Errorf("longer than %d bytes", maxText)}
	case len(c.HTML) > maxText:
		return &filters.SettingError{Key: "html", Err: fmt.Errorf("longer than %d bytes", maxText)}
	}
	return nil
}

// Open reads the files.
func (c *Checker) Open(context.Context, *filters.Env) error {
	for _, f := range []struct {
		name string
		text *string
	}{{c.TextFile, &c.Text}, {c.HTMLFile, &c.HTML}} {
		if f.name == "" {
			continue
		}
		b, err := os.ReadFile(f.name)
		switch {
		case err != nil:
			return fmt.Errorf("read disclaimer: %w", err)
		case len(b) > maxText:
			return fmt.Errorf("read disclaimer: %s is longer than %d bytes", f.name, maxText)
		}
		*f.text = strings.ToValidUTF8(string(b), "\ufffd")
	}
	return nil
}

// Check has nothing to say.
func (*Checker) Check(context.Context, *mail.Transaction, filters.Results) (filters.Verdict, error) {
	return filters.Verdict{}, nil
}

// Rewrite adds the text.
func (c *Checker) Rewrite(_ context.Context, in filters.RewriteInput) (*mail.Message, error) {
	with, ok := in.With.(*Action)
	if !ok {
		return nil, fmt.Errorf("%T are not settings of the action %s", in.With, in.Action)
	}
	text, page := c.texts(with)
	if text == "" {
		return nil, errors.New("there is no text: set text in the rule or in [filter.disclaimer]")
	}
	if why := untouchable(in.Message); why != "" {
		return mark(in.Message, why)
	}
	if strings.Contains(squeeze(in.Message.Text()), squeeze(text)) {
		return in.Message, nil
	}
	e := in.Message.Edit()
	if with.Position == Top {
		e.PrefixText(text+"\n\n", page)
	} else {
		e.AppendText("\n"+text+"\n", page)
	}
	m, err := e.Message()
	if errors.Is(err, mail.ErrEdit) && in.Message.Err() == nil {
		return mark(in.Message, "no body can take it")
	}
	return m, err
}

// texts returns the plain text and the HTML.
func (c *Checker) texts(with *Action) (text, page string) {
	text, page = with.Text, with.HTML
	if text == "" {
		text = c.Text
		if page == "" {
			page = c.HTML
		}
	}
	text = strings.TrimSpace(text)
	if page == "" && text != "" {
		page = "<p>" + strings.ReplaceAll(html.EscapeString(text), "\n", "<br>\n") + "</p>"
	}
	return text, page
}

// untouchable says why the bodies may not be changed; "" if they may.
func untouchable(m *mail.Message) string {
	for _, p := range m.Parts() {
		for _, t := range p.MediaTypes() {
			switch t {
			case "multipart/encrypted", "application/pgp-encrypted":
				return "the message is encrypted"
			case "multipart/signed", "application/pkcs7-mime", "application/x-pkcs7-mime", "application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature":
				return "the message is signed or encrypted"
			}
		}
	}
	if strings.Contains(m.Text(), "-----BEGIN PGP ") {
		return "the message is signed or encrypted"
	}
	return ""
}

// mark adds the field that says why the text is missing.
func mark(m *mail.Message, why string) (*mail.Message, error) {
	e := m.Edit()
	e.RemoveAll(Field)
	e.Prepend(mail.FoldField(Field, "not added; "+why))
	return e.Message()
}

// squeeze makes texts comparable that mail programs have wrapped anew.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
