package mail

import "strings"

// An encoding is a content transfer encoding.
type encoding uint8

const (
	encIdentity encoding = iota
	encBase64
	encQuoted
	encUU
	encYEnc
)

func (e encoding) String() string {
	return [...]string{"7bit", "base64", "quoted-printable", "x-uuencode", "x-yenc"}[e]
}

// classify works out what kind of part the header declares: media type,
// boundary, transfer encoding, each with every reading.
func (sc *scanner) classify(p *Part) {
	p.mediaType = sc.defaultType(p)
	v, ok := p.header.first(idContentType)
	p.plain = !ok
	if ok {
		t, plain := quickType(v)
		if plain && p.header.count(idContentType) == 1 {
			p.mediaType = t.mediaType
			p.boundary = t.boundary
			p.plain, p.charset = !t.named && t.params < 16, t.charset
		} else {
			sc.oddType(p)
		}
	}
	sc.readEncoding(p)
	if p.odd == nil || len(p.odd.types) == 0 {
		sc.settleType(p, p.mediaType)
	} else {
		sc.settleType(p, p.odd.types[0])
		for _, t := range p.odd.types[1:] {
			sc.otherType(p, t)
		}
	}
	if p.boundary != nil && p.container && strings.HasPrefix(p.mediaType, "multipart/") && *p.boundary == "" {
		sc.note(BoundaryEmpty, p, p.start, nil)
	}
	if p.parent == nil && p.container && !p.header.Has("MIME-Version") {
		sc.note(MissingMIME, p, p.start, nil)
	}
}

// defaultType returns the media type of a part that declares none: RFC 2046
// section 5.1.5 has another for digests.
func (sc *scanner) defaultType(p *Part) string {
	if p.parent != nil && p.parent.mediaType == "multipart/digest" {
		return "message/rfc822"
	}
	return "text/plain"
}

// settleType makes p a container if its effective media type is one.
func (sc *scanner) settleType(p *Part, t string) {
	p.mediaType = t
	switch {
	case strings.HasPrefix(t, "multipart/"):
		if p.boundary == nil {
			sc.note(BoundaryMissing, p, p.start, nil)
			sc.later.guess(p)
			return
		}
		p.container = true
		if p.encoding != encIdentity {
			sc.note(EncodedMultipart, p, p.start, nil)
			sc.m.expand, p.leafToo = true, true
		}
		if p.odd != nil {
			for _, b := range p.odd.boundaries {
				if b != *p.boundary {
					sc.later.split(p, b)
				}
			}
		}
	case isMessageType(t):
		if p.encoding != encIdentity {
			// RFC 2046 section 5.2.1 forbids it; clients decode it all the same.
			sc.note(EncodedMessage, p, p.start, nil)
			sc.m.expand = true
			return
		}
		p.container = true
	case t == "message/partial":
		sc.note(PartialMessage, p, p.start, nil)
		sc.later.entity(p, p.body, -1, -1, false)
	case t == "message/external-body":
		sc.note(ExternalBody, p, p.start, nil)
		sc.later.entity(p, p.body, -1, -1, false)
	}
}

// otherType puts on the agenda what a further media type of p makes of it.
func (sc *scanner) otherType(p *Part, t string) {
	switch {
	case strings.HasPrefix(t, "multipart/"):
		if p.odd != nil && !p.container {
			for _, b := range p.odd.boundaries {
				sc.later.split(p, b)
			}
		}
	case isMessageType(t):
		p.leafToo = true
		sc.later.entity(p, p.body, -1, -1, false)
	default:
		p.leafToo = true
	}
}

// isMessageType reports whether content of the type is a message.
func isMessageType(t string) bool {
	return t == "message/rfc822" || t == "message/global" || t == "message/news"
}

// oddType reads the Content-Type fields of p in every way.
func (sc *scanner) oddType(p *Part) {
	o := &oddities{}
	for _, f := range p.header.All("Content-Type") {
		r := readType(f.Value(), sc.m.limits.Fields)
		if len(r.types) == 0 {
			r.types = []string{sc.defaultType(p)}
		}
		o.types = appendNew(o.types, r.types...)
		o.boundaries = appendNew(o.boundaries, r.boundaries...)
		o.charsets = appendNew(o.charsets, r.charsets...)
		for _, k := range r.notes {
			sc.note(k, p, f.off, f.raw)
		}
	}
	p.odd = o
	if len(o.boundaries) > 0 {
		p.boundary = &o.boundaries[0]
	}
	if len(o.boundaries) > 1 {
		sc.note(BoundaryDuplicate, p, p.start, []byte(strings.Join(o.boundaries, " | ")))
	}
}

// appendNew appends the words that are not in the list yet.
func appendNew(list []string, words ...string) []string {
next:
	for _, w := range words {
		for _, have := range list {
			if have == w {
				continue next
			}
		}
		list = append(list, w)
	}
	return list
}

// A plainType is what a Content-Type says that can be read in one way only.
type plainType struct {
	mediaType string
	boundary  *string
	charset   string // in lower case
	named     bool   // it has a name or a filename
	params    int
}

// quickType reads a Content-Type that follows the grammar and can be read in
// one way only. It is what nearly all parts have.
func quickType(v []byte) (t plainType, plain bool) {
	v = trimSpace(v)
	n := 0
	for n < len(v) && isTypeByte[v[n]] {
		n++
	}
	t.mediaType = internType(v[:n])
	if slash := strings.IndexByte(t.mediaType, '/'); slash <= 0 || slash == n-1 || strings.IndexByte(t.mediaType[slash+1:], '/') >= 0 {
		return t, false
	}
	charset := false
	for v = trimSpace(v[n:]); len(v) > 0; v = trimSpace(v) {
		if v[0] != ';' {
			return t, false
		}
		if v = trimSpace(v[1:]); len(v) == 0 {
			break // a last semicolon is harmless
		}
		name, value, rest, ok := quickParam(v)
		if !ok {
			return t, false
		}
		t.params++
		switch {
		case equalFold(name, "boundary"):
			if t.boundary != nil || !plainBoundary(value) {
				return t, false
			}
			b := string(value)
			t.boundary = &b
		case equalFold(name, "charset"):
			if charset {
				return t, false
			}
			t.charset, charset = internCharset(trimSpace(value)), true
		case equalFold(name, "name") || equalFold(name, "filename"):
			t.named = true
		}
		v = rest
	}
	return t, true
}

// internCharset returns the name of a charset in lower case, without allocating
// for the usual ones.
func internCharset(b []byte) string {
	for _, usual := range [...]string{"utf-8", "us-ascii", "iso-8859-1", "windows-1252", "iso-8859-15"} {
		if equalFold(b, usual) {
			return usual
		}
	}
	return strings.ToLower(strings.TrimSpace(string(b)))
}

// quickParam reads "name=value" or "name="value"" and returns what follows.
func quickParam(v []byte) (name, value, rest []byte, ok bool) {
	n := 0
	for n < len(v) && isTypeByte[v[n]] && v[n] != '/' && v[n] != '*' {
		n++
	}
	if n == 0 || n == len(v) || v[n] != '=' {
		return nil, nil, nil, false
	}
	name, v = v[:n], v[n+1:]
	if len(v) > 0 && v[0] == '"' {
		for i := 1; i < len(v); i++ {
			switch v[i] {
			case '"':
				return name, v[1:i], v[i+1:], true
			case '\\', '\r', '\n', 0:
				return nil, nil, nil, false
			}
		}
		return nil, nil, nil, false
	}
	n = 0
	for n < len(v) && (isTypeByte[v[n]] || v[n] == ':' || v[n] == '@' || v[n] == '?' || v[n] == '=' || v[n] == ',') {
		n++
	}
	return name, v[:n], v[n:], n > 0
}

// plainBoundary reports whether everybody reads a boundary the same way.
func plainBoundary(b []byte) bool {
	if len(b) == 0 || len(b) > 200 || b[0] == ' ' || b[len(b)-1] == ' ' {
		return false
	}
	for i, c := range b {
		if c < ' ' || c >= 0x7f || c == '=' && i+1 < len(b) && b[i+1] == '?' {
			return false
		}
	}
	return true
}

// isTypeByte has the bytes of a token (RFC 2045 section 5.1) and the slash.
var isTypeByte = func() (t [256]bool) {
	for c := '!'; c < 0x7f; c++ {
		t[c] = !strings.ContainsRune(`()<>@,;:\"[]?=`, c)
	}
	return t
}()

// internType returns the media type in lower case, without allocating for the
// usual ones.
func internType(b []byte) string {
	var buf [40]byte
	if len(b) > len(buf) {
		return strings.ToLower(string(b))
	}
	for i, c := range b {
		buf[i] = lower(c)
	}
	low := buf[:len(b)]
	switch string(low) {
	case "text/plain":
		return "text/plain"
	case "text/html":
		return "text/html"
	case "multipart/mixed":
		return "multipart/mixed"
	case "multipart/alternative":
		return "multipart/alternative"
	case "multipart/related":
		return "multipart/related"
	case "multipart/signed":
		return "multipart/signed"
	case "multipart/report":
		return "multipart/report"
	case "message/rfc822":
		return "message/rfc822"
	case "application/octet-stream":
		return "application/octet-stream"
	case "application/pdf":
		return "application/pdf"
	case "image/png":
		return "image/png"
	case "image/jpeg":
		return "image/jpeg"
	case "image/gif":
		return "image/gif"
	}
	return string(low)
}
