package mail

import (
	"strconv"
	"strings"
)

// A param is one parameter of a structured field (RFC 2045 section 5.1), with
// every value that a client might read from it, the likeliest first.
type param struct {
	name    string   // lower case, without RFC 2231 decoration
	values  []string // one if everybody agrees
	piece   int      // RFC 2231 continuation number; -1 if none
	encoded bool     // RFC 2231 extended: charset and percent encoding
}

// readParams splits a field body at its semicolons into the part before the
// first one and the parameters. It takes what clients take: unquoted values
// with blanks, missing quotes, comments.
func readParams(v string, most int) (head string, params []param, full bool) {
	head, v = splitHead(v)
	head = strings.TrimSpace(head)
	if i := strings.IndexAny(head, " \t"); i > 0 && strings.IndexByte(head[i:], '=') > 0 {
		head, v = head[:i], head[i+1:]+";"+v // the first semicolon is missing
	}
	for v != "" {
		v = strings.TrimLeft(v, " \t\r\n;")
		if v == "" {
			break
		}
		if len(params) >= most {
			return head, params, true
		}
		eq := strings.IndexAny(v, "=;\"")
		if eq < 0 || v[eq] != '=' {
			v = noValue(v, eq, params)
			continue
		}
		p := param{piece: -1}
		name := strings.ToLower(strings.TrimSpace(string(stripComments([]byte(v[:eq])))))
		p.values, v = readValue(v[eq+1:])
		p.name, p.piece, p.encoded = splitStars(name)
		params = append(params, p)
	}
	return head, params, false
}

// splitHead cuts what stands before the first semicolon outside of comments.
func splitHead(v string) (head, rest string) {
	depth := 0
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			depth = max(depth-1, 0)
		case ';':
			if depth == 0 {
				return v[:i], v[i+1:]
			}
		}
	}
	head, rest, _ = strings.Cut(v, ";") // an open comment hides nothing
	return head, rest
}

// noValue deals with a piece that is no parameter. Clients that do not end an
// unquoted value at a semicolon take it for the value before it going on.
func noValue(v string, at int, params []param) (rest string) {
	word := v
	if at >= 0 {
		word, rest = v[:at], v[at+1:]
	} else {
		rest = ""
	}
	if n := len(params); n > 0 && word != "" {
		last := &params[n-1]
		last.values = appendNew(last.values, last.values[0]+";"+strings.TrimSpace(word))
	}
	return rest
}

// splitStars splits the RFC 2231 decoration off a parameter name: "name*0*".
func splitStars(name string) (base string, piece int, encoded bool) {
	star := strings.IndexByte(name, '*')
	if star < 0 {
		return name, -1, false
	}
	base, tail := strings.TrimSpace(name[:star]), strings.TrimSpace(name[star+1:])
	if tail == "" {
		return base, -1, true
	}
	tail, encoded = strings.CutSuffix(tail, "*")
	n, err := strconv.Atoi(strings.TrimSpace(tail))
	if err != nil || n < 0 || n > 1<<16 {
		return base, -1, encoded
	}
	return base, n, encoded
}

// readValue reads a parameter's value in every way and returns what follows.
func readValue(v string) (values []string, rest string) {
	v = strings.TrimLeft(v, " \t\r\n")
	if v == "" {
		return []string{""}, ""
	}
	if v[0] == '"' {
		return quotedValue(v)
	}
	end := strings.IndexByte(v, ';')
	if end < 0 {
		end = len(v)
	}
	raw := strings.TrimSpace(v[:end])
	rest = v[end:]
	values = []string{raw}
	if strings.HasSuffix(raw, `\`) && rest != "" { // "\;" may be a quoted pair
		more, _, _ := strings.Cut(rest[1:], ";")
		values = append(values, raw[:len(raw)-1]+";"+strings.TrimSpace(more))
	}
	if strings.IndexByte(raw, '(') >= 0 {
		bare := strings.TrimSpace(string(stripComments([]byte(raw))))
		before, _, _ := strings.Cut(raw, "(")
		values = appendNew([]string{bare, raw}, strings.TrimSpace(before))
	}
	if word, _, blank := strings.Cut(raw, " "); blank {
		values = appendNew(values, strings.TrimSpace(word), strings.Join(strings.Fields(raw), ""))
	}
	if strings.IndexByte(raw, '"') >= 0 {
		inside, _, _ := strings.Cut(raw[strings.IndexByte(raw, '"')+1:], `"`)
		before, _, _ := strings.Cut(raw, `"`)
		values = appendNew(values, strings.ReplaceAll(raw, `"`, ""), inside, strings.TrimSpace(before))
	}
	if strings.IndexByte(raw, '\\') >= 0 {
		values = appendNew(values, unescape(raw))
	}
	if len(raw) > 1 && raw[0] == '\'' && raw[len(raw)-1] == '\'' {
		values = appendNew(values, raw[1:len(raw)-1])
	}
	return values, rest
}

// quotedValue reads a value that begins with a quote.
func quotedValue(v string) (values []string, rest string) {
	i := 1
	escaped := false
	for i < len(v) && v[i] != '"' {
		if v[i] == '\\' && i+1 < len(v) {
			escaped = true
			i++
		}
		i++
	}
	if i >= len(v) { // no closing quote: to the end, or to the semicolon
		whole := v[1:]
		part, rest, _ := strings.Cut(whole, ";")
		word, _, _ := strings.Cut(part, " ")
		return appendNew([]string{strings.TrimSpace(whole)}, strings.TrimSpace(part), strings.TrimSpace(word), unescape(whole), strings.TrimSpace(`"`+whole)), rest
	}
	inner := v[1:i]
	rest = v[i+1:]
	end := strings.IndexByte(rest, ';')
	if end < 0 {
		end = len(rest)
	}
	after := strings.TrimSpace(string(stripComments([]byte(rest[:end]))))
	rest = rest[end:]
	values = []string{inner}
	if escaped {
		values = []string{unescape(inner), inner} // RFC 2045: quoted pairs; Windows paths are not
	}
	if after != "" {
		values = appendNew(values, inner+after, strings.ReplaceAll(inner+after, `"`, ""), strings.Trim(after, `"`))
	}
	return values, rest
}

// unescape resolves quoted pairs.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// stripComments removes comments (RFC 5322 section 3.2.2), but not in quoted
// strings. An open comment ends with the text.
func stripComments(b []byte) []byte {
	if strings.IndexByte(string(b), '(') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case c == '\\' && i+1 < len(b):
			if depth == 0 {
				out = append(out, c, b[i+1])
			}
			i++
			continue
		case depth == 0 && c == '"':
			quoted = !quoted
		case !quoted && c == '(':
			depth++
		case depth > 0 && c == ')':
			depth--
			continue
		}
		if depth == 0 {
			out = append(out, c)
		}
	}
	return out
}

// cutByte is bytes.Cut for one byte.
func cutByte(b []byte, c byte) (before, after []byte, found bool) {
	for i := range b {
		if b[i] == c {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}

// paramReadings returns every value that a client might read for the named
// parameter, the likeliest first, and whether it is written in a way that
// clients disagree about.
func paramReadings(params []param, name string) (values []string, notes []FindingKind) {
	var plain, single []string
	var pieces []param
	plainCount := 0
	odd := false
	for _, p := range params {
		if p.name != name {
			continue
		}
		switch {
		case p.piece >= 0:
			pieces = append(pieces, p)
		case p.encoded:
			single = appendNew(single, decodeExtended(p.values[0]), percentDecode(p.values[0]))
		default:
			plainCount++
			plain = appendNew(plain, p.values...)
			odd = odd || len(p.values) > 1
		}
	}
	joined := joinPieces(pieces)
	// RFC 2231 forms first: clients that know them prefer them.
	values = appendNew(values, single...)
	values = appendNew(values, joined...)
	values = appendNew(values, plain...)
	switch {
	case len(pieces) > 0 && (len(plain) > 0 || len(single) > 0 || len(joined) > 1):
		notes = append(notes, ContinuationClash)
	case len(single) > 0 && len(plain) > 0 && single[0] != plain[0]:
		notes = append(notes, ContinuationClash)
	}
	if plainCount > 1 && len(plain) > 1 {
		notes = append(notes, DuplicateParameter)
	} else if odd {
		notes = append(notes, OddParameter)
	}
	return values, notes
}

// paramMap returns the likeliest value of every parameter.
func paramMap(v []byte, most int) map[string]string {
	m := make(map[string]string)
	if len(v) == 0 {
		return m
	}
	_, params, _ := readParams(unfold(v), most)
	for _, p := range params {
		if _, have := m[p.name]; have {
			continue
		}
		if p.piece < 0 && !p.encoded {
			m[p.name] = p.values[0]
		}
	}
	for _, p := range params {
		if p.piece == 0 || p.encoded {
			if values, _ := paramReadings(params, p.name); len(values) > 0 && p.piece <= 0 {
				m[p.name] = values[0]
			}
		}
	}
	return m
}
