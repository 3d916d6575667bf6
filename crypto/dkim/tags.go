package dkim

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// maxTags bounds the tags of one list. RFC 6376 defines fourteen.
const maxTags = 64

// A tag is one name=value of a tag-list (RFC 6376 section 3.2).
type tag struct {
	name       string
	value      []byte // without the white space around it
	start, end int    // where the value lies in the text, with that white space
}

// errTags says that a text is no tag-list.
var errTags = errors.New("not a list of tags")

// parseTags reads a tag-list. The values are slices of text.
func parseTags(text []byte) ([]tag, error) {
	tags := make([]tag, 0, 12)
	for at := 0; at <= len(text); {
		end := bytes.IndexByte(text[at:], ';')
		last := end < 0
		if last {
			end = len(text)
		} else {
			end += at
		}
		if last && len(tags) > 0 && len(trim(text[at:end])) == 0 {
			break // RFC 6376 section 3.2: one semicolon may end the list
		}
		t, err := parseTag(text, at, end)
		if err != nil {
			return nil, err
		}
		for i := range tags {
			// RFC 6376 section 3.2: a list with the same tag twice is invalid.
			if tags[i].name == t.name {
				return nil, fmt.Errorf("%w: %s= stands there twice", errTags, t.name)
			}
		}
		if len(tags) == maxTags {
			return nil, fmt.Errorf("%w: more than %d tags", errTags, maxTags)
		}
		tags = append(tags, t)
		if last {
			break
		}
		at = end + 1
	}
	return tags, nil
}

// parseTag reads the tag that text[at:end] is.
func parseTag(text []byte, at, end int) (tag, error) {
	equals := bytes.IndexByte(text[at:end], '=')
	if equals < 0 {
		return tag{}, fmt.Errorf("%w: %q has no =", errTags, brief(text[at:end]))
	}
	equals += at
	name := trim(text[at:equals])
	if !isTagName(name) {
		return tag{}, fmt.Errorf("%w: %q is not the name of a tag", errTags, brief(name))
	}
	t := tag{name: string(name), value: trim(text[equals+1 : end]), start: equals + 1, end: end}
	for _, c := range t.value {
		if c < ' ' && !isWSP(c) || c == 0x7f {
			return tag{}, fmt.Errorf("%w: a control character in %s=", errTags, t.name)
		}
	}
	return t, nil
}

// isTagName reports whether b is a letter followed by letters, digits and
// underscores.
func isTagName(b []byte) bool {
	for i, c := range b {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return len(b) > 0
}

// find returns the tag of that name, nil if there is none.
func find(tags []tag, name string) *tag {
	for i := range tags {
		if tags[i].name == name {
			return &tags[i]
		}
	}
	return nil
}

// isWSP reports whether c is white space of a folded field. Key records may
// have been folded by a registrar's form, so CR and LF count wherever they stand.
func isWSP(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// trim cuts white space off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && isWSP(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isWSP(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// squeeze returns b without any white space.
func squeeze(b []byte) []byte {
	if !bytes.ContainsAny(b, " \t\r\n") {
		return b
	}
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if !isWSP(c) {
			out = append(out, c)
		}
	}
	return out
}

// decode64 decodes base64 without white space. RFC 6376 section 2.10: the padding
// at its end may be missing.
func decode64(text []byte) ([]byte, error) {
	if len(text)%4 != 0 {
		out := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
		n, err := base64.RawStdEncoding.Decode(out, text)
		return out[:n], err
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	return out[:n], err
}

// words calls f for each word of a list with colons, without the white space
// around it, until f returns false.
func words(list []byte, f func(word []byte) bool) {
	for {
		i := bytes.IndexByte(list, ':')
		if i < 0 {
			f(trim(list))
			return
		}
		if !f(trim(list[:i])) {
			return
		}
		list = list[i+1:]
	}
}

// contains reports whether a list with colons has a word.
func contains(list []byte, word string) bool {
	found := false
	words(list, func(w []byte) bool {
		found = string(w) == word
		return !found
	})
	return found
}

// brief cuts what a signer wrote down to what fits in a reason.
func brief(b []byte) []byte {
	if b = trim(b); len(b) > 32 {
		b = b[:32]
	}
	return b
}

// parseNumber reads 1 to 18 digits; RFC 6376 allows 76 of them, for numbers
// that no mail has.
func parseNumber(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// parseTime reads seconds since 1970.
func parseTime(b []byte) (time.Time, bool) {
	n, ok := parseNumber(b)
	if !ok || n >= 1<<40 { // RFC 6376 section 3.5: beyond 10^12 means for ever
		return time.Time{}, ok
	}
	return time.Unix(n, 0).UTC(), true
}
