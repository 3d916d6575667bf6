package mail

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// textLimit bounds the text that is taken from one message.
const textLimit = 8 << 20

// Text returns the decoded content of a text part in UTF-8; of HTML, the markup
// too. It is empty for other parts.
func (p *Part) Text() string {
	return p.text.get(func() string {
		if !p.isText() {
			return ""
		}
		b, err := p.Bytes()
		if err != nil {
			return "" // Bytes tells
		}
		cs := p.Charset()
		if cs == "" && p.isHTML() {
			cs = metaCharset(b)
		}
		s, _ := decodeCharset(b[:min(len(b), textLimit)], cs)
		return s
	})
}

// isText reports whether some client reads the part as text.
func (p *Part) isText() bool {
	if !p.IsLeaf() || p.member != nil {
		return false
	}
	for _, t := range p.MediaTypes() {
		if strings.HasPrefix(t, "text/") || t == "application/xhtml+xml" {
			return true
		}
	}
	return p.leafToo
}

// isHTML reports whether some client reads the part as HTML.
func (p *Part) isHTML() bool {
	for _, t := range p.MediaTypes() {
		if t == "text/html" || t == "application/xhtml+xml" {
			return true
		}
	}
	return false
}

// PlainText returns the text that a reader of the part sees: of HTML, without
// markup, scripts and styles.
func (p *Part) PlainText() string {
	s := p.Text()
	if s != "" && p.isHTML() {
		return HTMLText(s)
	}
	return s
}

// Text returns the text of the message that its reader sees: every text part
// that is no attachment, in UTF-8, HTML without its markup, one after the other.
func (m *Message) Text() string {
	return m.texting.get(func() string {
		var b strings.Builder
		for _, p := range m.Parts() {
			if !p.isText() || p.Disposition() == "attachment" {
				continue
			}
			t := p.PlainText()
			if b.Len()+len(t) > textLimit {
				t = strings.ToValidUTF8(t[:max(textLimit-b.Len(), 0)], "")
			}
			b.WriteString(t)
			if t != "" && !strings.HasSuffix(t, "\n") {
				b.WriteByte('\n')
			}
		}
		return b.String()
	})
}

// metaCharset returns the charset that an HTML page declares in its beginning.
func metaCharset(b []byte) string {
	b = bytes.ToLower(b[:min(len(b), 1024)])
	i := bytes.Index(b, []byte("charset="))
	if i < 0 {
		return ""
	}
	b = bytes.TrimLeft(b[i+len("charset="):], `"' `)
	if n := bytes.IndexAny(b, "\"' ;/>\r\n"); n >= 0 {
		b = b[:n]
	}
	return string(b)
}

// HTMLText returns the text of an HTML document: blocks on lines of their own,
// scripts, styles and comments left out.
func HTMLText(doc string) string {
	var out strings.Builder
	z := html.NewTokenizer(strings.NewReader(doc))
	skip := atom.Atom(0)
	for {
		switch z.Next() {
		case html.ErrorToken:
			return strings.TrimSpace(out.String())
		case html.TextToken:
			if skip == 0 {
				writeText(&out, z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			switch a := atom.Lookup(name); a {
			case atom.Script, atom.Style, atom.Title, atom.Noscript, atom.Template:
				if a != atom.Noscript && a != atom.Title {
					skip = a
				}
			default:
				breakLine(&out, a)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			a := atom.Lookup(name)
			if a == skip {
				skip = 0
			}
			breakLine(&out, a)
		}
	}
}

// writeText appends text with its white space collapsed.
func writeText(out *strings.Builder, text []byte) {
	s := html.UnescapeString(string(text))
	last := byte('\n')
	if n := out.Len(); n > 0 {
		last = out.String()[n-1]
	}
	for _, r := range s {
		switch r {
		case ' ', '\t', '\n', '\r', '\f', 0xA0:
			if last != ' ' && last != '\n' {
				out.WriteByte(' ')
				last = ' '
			}
		default:
			out.WriteRune(r)
			last = 'x'
		}
	}
}

// breakLine ends the line at a tag that breaks text.
func breakLine(out *strings.Builder, a atom.Atom) {
	switch a {
	case atom.Br, atom.P, atom.Div, atom.Tr, atom.Li, atom.Ul, atom.Ol, atom.Table, atom.H1, atom.H2, atom.H3, atom.H4,
		atom.H5, atom.H6, atom.Hr, atom.Pre, atom.Blockquote, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Form, atom.Title:
		if n := out.Len(); n > 0 && out.String()[n-1] != '\n' {
			out.WriteByte('\n')
		}
	case atom.Td, atom.Th:
		if n := out.Len(); n > 0 && out.String()[n-1] > ' ' {
			out.WriteByte(' ')
		}
	}
}
