package mail

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"mime/quotedprintable"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A textEdit puts text around the body of a part.
type textEdit struct {
	part          *Part
	before, after string
}

// PrefixText puts text before the first text/plain body and HTML before the
// first text/html body of the message, attachments and attached messages left
// alone. An empty argument leaves that body alone. Only these parts are encoded
// anew. A body that cannot hold the text, because it is signed, encrypted or in
// an unknown charset, is an error; so is a message without any such body.
func (e *Editor) PrefixText(plain, html string) {
	e.addText(plain, html, func(t *textEdit, s string) { t.before = s + t.before })
}

// AppendText is PrefixText, after the bodies.
func (e *Editor) AppendText(plain, html string) {
	e.addText(plain, html, func(t *textEdit, s string) { t.after += s })
}

// addText finds the bodies and notes what they get.
func (e *Editor) addText(plain, html string, put func(*textEdit, string)) {
	found := false
	for _, want := range [...]struct{ mediaType, text string }{{"text/plain", plain}, {"text/html", html}} {
		if want.text == "" {
			continue
		}
		p := e.bodyPart(want.mediaType)
		if p == nil {
			continue
		}
		found = true
		i := slices.IndexFunc(e.texts, func(t textEdit) bool { return t.part == p })
		if i < 0 {
			i = len(e.texts)
			e.texts = append(e.texts, textEdit{part: p})
		}
		put(&e.texts[i], want.text)
	}
	if !found {
		e.fail("it has no text body")
	}
}

// bodyPart returns the first body of that media type.
func (e *Editor) bodyPart(mediaType string) *Part {
	for _, p := range e.m.Parts() {
		if p.mediaType == mediaType && !p.reading && p.InMessage() && p.Disposition() != "attachment" && !inMessagePart(p) {
			return p
		}
	}
	return nil
}

// inMessagePart reports whether p belongs to an attached message.
func inMessagePart(p *Part) bool {
	for q := p.parent; q != nil; q = q.parent {
		if isMessageType(q.mediaType) {
			return true
		}
	}
	return false
}

// sealed reports whether a change of p breaks a signature or encryption.
func sealed(p *Part, content []byte) bool {
	for q := p; q != nil; q = q.parent {
		switch q.mediaType {
		case "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime":
			return true
		}
	}
	return bytes.Contains(content, []byte("-----BEGIN PGP "))
}

// edits returns the changes that put the text in.
func (t textEdit) edits() ([]edit, error) {
	p := t.part
	content, err := p.Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: part %q: %w", ErrEdit, p.ID(), err)
	}
	switch {
	case sealed(p, content):
		return nil, fmt.Errorf("%w: part %q is signed or encrypted", ErrEdit, p.ID())
	case p.header.cut:
		return nil, fmt.Errorf("%w: part %q: its header exceeds the limits", ErrEdit, p.ID())
	case p.odd != nil:
		return nil, fmt.Errorf("%w: part %q can be read in several ways", ErrEdit, p.ID())
	}
	isHTML := p.mediaType == "text/html"
	charset := p.Charset()
	before, ok1 := encodeText(crlf(t.before), charset, isHTML)
	after, ok2 := encodeText(crlf(t.after), charset, isHTML)
	if !ok1 || !ok2 {
		if content, ok1 = toUTF8(content, charset); !ok1 {
			return nil, fmt.Errorf("%w: part %q: charset %q cannot hold the text", ErrEdit, p.ID(), charset)
		}
		charset, before, after = "utf-8", []byte(crlf(t.before)), []byte(crlf(t.after))
	}
	if isHTML {
		return t.store(insertHTML(content, before, after), charset), nil
	}
	return t.store(joinText(content, before, after), charset), nil
}

// crlf writes line ends as CRLF.
func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// encodeText writes text in a charset; false if it cannot hold it. HTML can
// name every character in ASCII.
func encodeText(text, charset string, isHTML bool) ([]byte, bool) {
	switch {
	case isASCIIUnsafe(charset):
		return nil, text == ""
	case isASCII(text):
		return []byte(text), true
	case charset == "utf-8", charset == "utf8":
		return []byte(text), true
	case isHTML:
		var b []byte
		for _, r := range text {
			if r < utf8.RuneSelf {
				b = append(b, byte(r))
				continue
			}
			b = append(b, "&#"...)
			b = append(strconv.AppendInt(b, int64(r), 10), ';')
		}
		return b, true
	}
	enc := lookupCharset(charset)
	if enc == nil {
		return nil, false
	}
	out, err := enc.NewEncoder().Bytes([]byte(text))
	return out, err == nil
}

// toUTF8 converts a whole body; false if something would be lost.
func toUTF8(content []byte, charset string) ([]byte, bool) {
	if charset == "" || charset == "us-ascii" {
		return content, utf8.Valid(content)
	}
	s, known := decodeCharset(content, charset)
	return []byte(s), known && !strings.ContainsRune(s, utf8.RuneError)
}

// joinText puts text around a plain body.
func joinText(content, before, after []byte) []byte {
	if n := len(before); n > 0 && before[n-1] != '\n' {
		before = append(before, "\r\n"...)
	}
	if n := len(content); len(after) > 0 && n > 0 && content[n-1] != '\n' {
		after = append([]byte("\r\n"), after...)
	}
	if n := len(after); n > 0 && after[n-1] != '\n' {
		after = append(after, "\r\n"...)
	}
	return slices.Concat(before, content, after)
}

// insertHTML puts HTML at the beginning and the end of what a document shows.
func insertHTML(content, before, after []byte) []byte {
	from, to := visibleHTML(content)
	return slices.Concat(content[:from], before, content[from:to], after, content[to:])
}

// visibleHTML returns where the visible part of a document begins and ends:
// inside of the body element, as far as there is one.
func visibleHTML(content []byte) (from, to int) {
	z := html.NewTokenizer(bytes.NewReader(content))
	at := 0
	to = len(content)
	body := false
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return min(from, to), to
		}
		start := at
		at += len(z.Raw())
		if kind == html.DoctypeToken && from == 0 {
			from = at
		}
		if kind != html.StartTagToken && kind != html.EndTagToken {
			continue
		}
		name, _ := z.TagName()
		a := atom.Lookup(name)
		switch {
		case kind == html.StartTagToken && a == atom.Body && !body:
			from, body = at, true
		case a == atom.Html && kind == html.StartTagToken && !body, a == atom.Head && kind == html.EndTagToken && !body:
			from = at
		case a == atom.Body && kind == html.EndTagToken:
			to = start
		case a == atom.Html && kind == html.EndTagToken && to == len(content):
			to = start
		}
	}
}

// store returns the changes that make content, in charset, the content of the
// part.
func (t textEdit) store(content []byte, charset string) []edit {
	p := t.part
	enc := p.encoding
	if enc == encIdentity && (tooLong(content) || !isASCII(content) && isASCII(p.raw())) {
		enc = encQuoted
	}
	if enc == encUU || enc == encYEnc {
		enc = encBase64
	}
	body := encodeBody(content, enc)
	if enc != encBase64 && delimits(p, body) {
		enc = encBase64
		body = encodeBody(content, enc)
	}
	var list []edit
	var fresh strings.Builder
	list = t.setField(list, &fresh, idContentType, "Content-Type", contentType(p, charset), charset != p.Charset())
	list = t.setField(list, &fresh, idEncoding, "Content-Transfer-Encoding", enc.String(), enc != p.encoding)
	if fresh.Len() > 0 && p.parent == nil && !p.header.Has("MIME-Version") {
		fresh.WriteString("MIME-Version: 1.0\r\n")
	}
	if at, before, after := p.headerEnd(); before != "" || after != "" || fresh.Len() > 0 {
		list = append(list, edit{at, at, []byte(before + fresh.String() + after)})
	}
	return append(list, edit{p.body, p.end, slices.Concat(body, p.tail())})
}

// delimits reports whether a line of the new body of p would be a delimiter to
// anybody: an escape that is not needed any more, a line that is folded anew, or
// text before it can bring one to light that was text for whoever looked at the
// message before. Such a body is written in base64, which has no hyphens.
func delimits(p *Part, body []byte) bool {
	for q := p.parent; q != nil; q = q.parent {
		var all []string
		if q.boundary != nil {
			all = append(all, *q.boundary)
		}
		if q.odd != nil {
			all = append(all, q.odd.boundaries...)
		}
		for _, b := range all {
			if delimitedBy(body, "--"+b) {
				return true
			}
		}
	}
	return false
}

// delimitedBy reports whether a line of body begins with the delimiter, after
// blanks or not. Whatever is not visible may end a line.
func delimitedBy(body []byte, delimiter string) bool {
	for {
		i := bytes.Index(body, []byte(delimiter))
		if i < 0 {
			return false
		}
		before := bytes.TrimRight(body[:i], " \t")
		if len(before) == 0 || before[len(before)-1] < ' ' {
			return true
		}
		body = body[i+1:]
	}
}

// setField changes a field of the part's header, or adds it to fresh.
func (t textEdit) setField(list []edit, fresh *strings.Builder, id fieldID, name, value string, changed bool) []edit {
	if !changed {
		return list
	}
	raw := FoldField(name, value)
	h := &t.part.header
	for i := range h.fields {
		if h.fields[i].id == id {
			f := h.field(i)
			return append(list, edit{f.off, f.off + int64(len(f.raw)), []byte(raw)})
		}
	}
	fresh.WriteString(raw)
	return list
}

// contentType writes the media type with its parameters and another charset.
func contentType(p *Part, charset string) string {
	var b strings.Builder
	b.WriteString(p.mediaType + "; charset=" + charset)
	params := p.Params()
	for _, k := range slices.Sorted(maps.Keys(params)) {
		if k != "charset" && validName([]byte(k)) && isASCII(params[k]) {
			b.WriteString("; " + k + "=" + strconv.Quote(params[k]))
		}
	}
	return b.String()
}

// tooLong reports whether a line may be too long to travel as it is.
func tooLong(content []byte) bool {
	for len(content) > 0 {
		line, rest := cutLine(content)
		if len(line) > maxLine {
			return true
		}
		content = rest
	}
	return false
}

// encodeBody writes content in a transfer encoding.
func encodeBody(content []byte, enc encoding) []byte {
	var b bytes.Buffer
	switch enc {
	case encBase64:
		text := base64.StdEncoding.EncodeToString(content)
		for len(text) > 76 {
			b.WriteString(text[:76] + "\r\n")
			text = text[76:]
		}
		b.WriteString(text + "\r\n")
	case encQuoted:
		w := quotedprintable.NewWriter(&b)
		w.Write(content) // a Buffer takes everything
		w.Close()
	default:
		return content
	}
	return b.Bytes()
}
