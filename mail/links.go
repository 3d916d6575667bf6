package mail

import (
	"net/url"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A LinkKind says how a link stands in the message.
type LinkKind string

const (
	LinkText    LinkKind = "text"    // written in text
	LinkHref    LinkKind = "href"    // a, area
	LinkSource  LinkKind = "src"     // image, frame, script and so on: fetched by the client
	LinkForm    LinkKind = "form"    // where a form goes to
	LinkBase    LinkKind = "base"    // what the others are relative to
	LinkRefresh LinkKind = "refresh" // meta refresh: followed by itself
	LinkStyle   LinkKind = "style"   // url() in a style
)

// A Link is one link of a message.
type Link struct {
	URL  string // absolute where a base made it so; otherwise as written, white space removed
	Text string // what the reader sees in its place
	Kind LinkKind
	Part PartID
}

// maxLinks bounds the links of one message.
const maxLinks = 20_000

// Links returns the links of every text part, attached HTML included, in order.
// The same link comes as often as it stands there, up to 20,000 in all.
func (m *Message) Links() []Link {
	return m.linking.get(func() []Link {
		var all []Link
		for _, p := range m.Parts() {
			if !p.isText() {
				continue
			}
			id := p.ID()
			add := func(l Link) bool {
				l.Part = id
				all = append(all, l)
				return len(all) < maxLinks
			}
			if p.isHTML() {
				htmlLinks(p.Text(), add)
			} else {
				TextLinks(p.Text(), func(u string) bool { return add(Link{URL: u, Text: u, Kind: LinkText}) })
			}
			if len(all) >= maxLinks {
				break
			}
		}
		return all
	})
}

// An htmlScan finds the links of an HTML document.
type htmlScan struct {
	add  func(Link) bool
	base *url.URL
	open *Link // an a element that is open
	text strings.Builder
	more bool
	deep int // documents in attributes around this one
}

// maxDocuments bounds documents in attributes of documents (srcdoc).
const maxDocuments = 4

// htmlLinks calls add for every link until it returns false.
func htmlLinks(doc string, add func(Link) bool) {
	s := htmlScan{add: add, more: true}
	s.run(doc)
}

// run goes through a document.
func (s *htmlScan) run(doc string) {
	z := html.NewTokenizer(strings.NewReader(doc))
	skip := atom.Atom(0)
	for s.more {
		switch z.Next() {
		case html.ErrorToken:
			s.closeLink()
			return
		case html.TextToken:
			switch text := z.Text(); {
			case skip == atom.Style:
				s.style(string(text))
			case skip != 0:
				TextLinks(string(text), func(u string) bool { s.put(LinkText, u, ""); return s.more })
			case s.open != nil:
				if s.text.Len() < 1<<10 {
					writeText(&s.text, text)
				}
			default:
				TextLinks(html.UnescapeString(string(text)), func(u string) bool { s.put(LinkText, u, u); return s.more })
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			a := atom.Lookup(name)
			if a == atom.Script || a == atom.Style {
				skip = a
			}
			if more {
				s.tag(a, z)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			a := atom.Lookup(name)
			if a == skip {
				skip = 0
			}
			if a == atom.A {
				s.closeLink()
			}
		}
	}
}

// put adds a link.
func (s *htmlScan) put(kind LinkKind, raw, text string) {
	if u := s.resolve(raw); u != "" && s.more {
		s.more = s.add(Link{URL: u, Text: text, Kind: kind})
	}
}

// resolve makes a link absolute if there is a base. Browsers drop tabs and line
// breaks in links, and white space around them.
func (s *htmlScan) resolve(raw string) string {
	u := strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' || r == 0 {
			return -1
		}
		return r
	}, strings.TrimSpace(raw))
	if s.base == nil || u == "" {
		return u
	}
	if ref, err := url.Parse(u); err == nil {
		return s.base.ResolveReference(ref).String()
	}
	return u
}

// closeLink ends the a element at hand.
func (s *htmlScan) closeLink() {
	if s.open == nil {
		return
	}
	s.put(s.open.Kind, s.open.URL, strings.TrimSpace(s.text.String()))
	s.open = nil
	s.text.Reset()
}

// tag looks at the attributes of a tag.
func (s *htmlScan) tag(a atom.Atom, z *html.Tokenizer) {
	refresh, content := false, ""
	for more := true; more; {
		var k, v []byte
		k, v, more = z.TagAttr()
		val := string(v)
		switch string(k) {
		case "href", "xlink:href":
			s.href(a, val)
		case "src", "background", "poster", "data", "lowsrc", "dynsrc", "cite", "longdesc", "codebase", "archive", "classid":
			s.put(LinkSource, val, "")
		case "srcset":
			for _, c := range strings.Split(val, ",") {
				u, _, _ := strings.Cut(strings.TrimSpace(c), " ")
				s.put(LinkSource, u, "")
			}
		case "srcdoc":
			if s.deep < maxDocuments {
				inner := htmlScan{add: s.add, base: s.base, more: s.more, deep: s.deep + 1}
				inner.run(val)
				s.more = inner.more
			}
		case "action", "formaction":
			s.put(LinkForm, val, "")
		case "style":
			s.style(val)
		case "http-equiv":
			refresh = strings.EqualFold(strings.TrimSpace(val), "refresh")
		case "content":
			content = val
		}
	}
	if a == atom.Meta && refresh {
		if i := strings.Index(strings.ToLower(content), "url"); i >= 0 {
			s.put(LinkRefresh, strings.Trim(strings.TrimLeft(content[i+3:], " ="), `"' `), "")
		}
	}
}

// href deals with the attribute of a, area, base and link.
func (s *htmlScan) href(a atom.Atom, val string) {
	switch a {
	case atom.A:
		s.closeLink()
		s.open = &Link{URL: val, Kind: LinkHref}
	case atom.Base:
		if u, err := url.Parse(s.resolve(val)); err == nil && s.base == nil && u.IsAbs() {
			s.base = u
		}
		s.put(LinkBase, val, "")
	case atom.Link, atom.Image:
		s.put(LinkSource, val, "")
	default:
		s.put(LinkHref, val, "")
	}
}

// style adds what url() in a style names.
func (s *htmlScan) style(css string) {
	for s.more {
		i := strings.Index(css, "url(")
		if i < 0 {
			return
		}
		css = css[i+4:]
		n := strings.IndexByte(css, ')')
		if n < 0 {
			return
		}
		if u := strings.Trim(css[:n], `"' `); !strings.HasPrefix(u, "data:") {
			s.put(LinkStyle, u, "")
		}
		css = css[n:]
	}
}
