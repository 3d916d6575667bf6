package mail

import "strings"

// A typeReading is every way to read one Content-Type field.
type typeReading struct {
	types      []string
	boundaries []string
	charsets   []string
	notes      []FindingKind
}

// readType reads a Content-Type that does not follow the grammar, or can be
// read in several ways.
func readType(v string, most int) typeReading {
	var r typeReading
	head, params, full := readParams(v, most)
	if full {
		r.notes = append(r.notes, LimitFields)
	}
	r.readHead(head)
	r.readBoundary(params)
	for _, p := range params {
		if p.name == "charset" && p.piece < 0 {
			r.charsets = appendNew(r.charsets, strings.ToLower(p.values[0]))
		}
	}
	if len(r.charsets) > 1 {
		r.notes = append(r.notes, DuplicateParameter)
	}
	return r
}

// readHead reads the media type.
func (r *typeReading) readHead(head string) {
	clean := strings.TrimSpace(string(stripComments([]byte(head))))
	for _, t := range []string{clean, DecodeHeader(clean), strings.TrimSpace(head)} {
		t = strings.ToLower(strings.Trim(t, `"' `))
		words := strings.FieldsFunc(t, func(c rune) bool { return c <= ' ' || c == ',' })
		n := len(r.types)
		for _, w := range words {
			if isMediaType(w) {
				r.types = appendNew(r.types, w)
			}
		}
		if w := strings.Join(words, ""); len(r.types) == n && isMediaType(w) {
			r.types = appendNew(r.types, w)
		}
	}
	if len(r.types) != 1 || r.types[0] != strings.ToLower(strings.TrimSpace(head)) {
		r.notes = append(r.notes, OddContentType)
	}
	if len(r.types) == 0 && strings.HasPrefix(strings.ToLower(clean), "multipart") {
		r.types = []string{"multipart/mixed"}
	}
}

// isMediaType reports whether t is two words with a slash between them.
func isMediaType(t string) bool {
	major, minor, ok := strings.Cut(t, "/")
	return ok && major != "" && minor != "" && strings.IndexByte(minor, '/') < 0
}

// readBoundary reads the boundary, with the clients that decode where nothing
// is to be decoded.
func (r *typeReading) readBoundary(params []param) {
	values, notes := paramReadings(params, "boundary")
	for _, v := range values {
		r.boundaries = appendNew(r.boundaries, strings.TrimRight(v, " \t"), strings.TrimSpace(v))
	}
	for _, v := range values {
		if d := DecodeHeader(v); d != v {
			r.boundaries = appendNew(r.boundaries, d)
		}
	}
	const most = 16 // more ways to read one field than any client has
	if len(r.boundaries) > most {
		r.boundaries = r.boundaries[:most]
		r.notes = append(r.notes, LimitReadings)
	}
	for _, k := range notes {
		if k == OddParameter {
			k = BoundaryOdd
		}
		r.notes = append(r.notes, k)
	}
	if len(notes) == 0 && (len(r.boundaries) > 1 || isExtended(params, "boundary")) {
		r.notes = append(r.notes, BoundaryOdd)
	}
}

// isExtended reports whether a parameter has an RFC 2231 form, which many
// clients do not know outside of file names.
func isExtended(params []param, name string) bool {
	for _, p := range params {
		if p.name == name && (p.encoded || p.piece >= 0) {
			return true
		}
	}
	return false
}

// readEncoding reads the Content-Transfer-Encoding fields of p.
func (sc *scanner) readEncoding(p *Part) {
	n := p.header.count(idEncoding)
	if n == 0 {
		return
	}
	if n == 1 {
		v, _ := p.header.first(idEncoding)
		if e, ok := plainEncoding(trimSpace(v)); ok {
			p.encoding = e
			return
		}
	}
	var all []encoding
	known := false
	for _, f := range p.header.All("Content-Transfer-Encoding") {
		es, clear := readEncodings(f.Value())
		if len(es) == 0 {
			sc.note(UnknownEncoding, p, f.off, f.raw)
			es = []encoding{encIdentity}
		} else if !clear {
			sc.note(EncodingClash, p, f.off, f.raw)
		}
		if clear && !known { // a clear word wins over an unclear one
			known = true
			all = append(es, all...)
			continue
		}
		all = append(all, es...)
	}
	var distinct []encoding
	for _, e := range all {
		if !hasEncoding(distinct, e) {
			distinct = append(distinct, e)
		}
	}
	if !known && !hasEncoding(distinct, encIdentity) {
		distinct = append(distinct, encIdentity) // RFC 2045 section 6.4: unknown is read as it is
	}
	p.encoding = distinct[0]
	if len(distinct) > 1 {
		if p.odd == nil {
			p.odd = &oddities{}
		}
		p.odd.encodings = distinct
	}
}

// hasEncoding reports whether e is in the list.
func hasEncoding(list []encoding, e encoding) bool {
	for _, have := range list {
		if have == e {
			return true
		}
	}
	return false
}

// plainEncoding returns the encoding that a word names.
func plainEncoding(w []byte) (encoding, bool) {
	switch {
	case equalFold(w, "7bit"), equalFold(w, "8bit"), equalFold(w, "binary"):
		return encIdentity, true
	case equalFold(w, "base64"):
		return encBase64, true
	case equalFold(w, "quoted-printable"):
		return encQuoted, true
	case equalFold(w, "x-uuencode"), equalFold(w, "uuencode"), equalFold(w, "x-uue"), equalFold(w, "uue"):
		return encUU, true
	case equalFold(w, "x-yencode"), equalFold(w, "x-yenc"), equalFold(w, "yenc"):
		return encYEnc, true
	}
	return encIdentity, false
}

// readEncodings reads a value that is not one plain word: comments, encoded
// words, several words, words with something around them.
func readEncodings(v string) (es []encoding, clear bool) {
	add := func(w string) {
		if e, ok := plainEncoding([]byte(strings.Trim(w, `"'<>[]{}.:-=_ `))); ok {
			es = append(es, e)
		}
	}
	if e, ok := plainEncoding([]byte(strings.TrimSpace(v))); ok {
		return []encoding{e}, true
	}
	clean := string(stripComments([]byte(v)))
	for _, text := range []string{clean, DecodeHeader(v), v} {
		for _, w := range strings.FieldsFunc(text, func(r rune) bool {
			return strings.ContainsRune(" \t,;()/\r\n\x00", r)
		}) {
			add(w)
		}
	}
	if len(es) == 0 {
		low := strings.ToLower(v)
		low = strings.Join(strings.Fields(low), "")
		for _, e := range []encoding{encBase64, encQuoted} {
			if strings.Contains(low, e.String()) {
				es = append(es, e)
			}
		}
	}
	return es, false
}
