package attachments

import (
	"net/url"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A named is what one name of an attachment tells.
type named struct {
	shown  string   // as the message has it
	bases  []string // as the systems that it is saved on may end up calling it
	tricks []string // how it deceives people
}

// dots are characters that look like a full stop, or become one when a name
// is normalised.
const dots = "\u2024\uff0e\u3002\uff61\ufe52\u06d4\u0701\u0702\ua4f8\u0660\u06f0\u2e3c\ua60e"

// turners are characters that change the direction of the text around them
// (Unicode Bidirectional Algorithm).
const turners = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"

// readName works out what a name may become.
func readName(shown string) named {
	n := named{shown: shown}
	candidates := []string{shown}
	if before, _, cut := strings.Cut(shown, "\x00"); cut {
		n.trick("holds a NUL, where some programs stop reading")
		candidates = append(candidates, before)
	}
	if strings.Contains(shown, "%") {
		if plain, err := url.PathUnescape(shown); err == nil && plain != shown {
			candidates = append(candidates, plain)
		}
	}
	if strings.ContainsAny(shown, turners) {
		n.trick("holds a character that turns the reading direction")
	}
	for _, c := range candidates {
		c = plainName(c, &n)
		c = c[strings.LastIndexAny(c, `/\`)+1:]
		n.add(c)
		if file, stream, ok := strings.Cut(c, ":"); ok {
			// NTFS: a name with a colon is a stream of the file before it.
			n.trick("names an NTFS stream")
			n.add(file)
			stream, _, _ = strings.Cut(stream, ":")
			n.add(stream)
		}
	}
	if strings.Contains(shown, strings.Repeat(" ", 8)) {
		n.trick("hides its end behind spaces")
	}
	return n
}

// plainName folds what a file system or a client would fold: compatibility
// forms, invisible characters, full stops of other scripts.
func plainName(s string, n *named) string {
	odd := false
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			odd = true
			break
		}
	}
	if !odd {
		return s
	}
	return norm.NFKC.String(strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(dots, r):
			n.trick("holds a character that looks like a full stop")
			return '.'
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		case r == '\u2044', r == '\u2215', r == '\uff0f':
			return '/'
		}
		return r
	}, s))
}

// add adds a name that a system may use: Windows drops full stops and spaces
// at the end.
func (n *named) add(base string) {
	trimmed := strings.TrimRightFunc(base, func(r rune) bool {
		return r == '.' || r == '"' || r == '\'' || r == ';' || r == ',' || unicode.IsSpace(r)
	})
	if trimmed != "" && !slices.Contains(n.bases, trimmed) {
		n.bases = append(n.bases, trimmed)
	}
}

func (n *named) trick(what string) {
	if !slices.Contains(n.tricks, what) {
		n.tricks = append(n.tricks, what)
	}
}

// A claim is one kind that a part has, and why.
type claim struct {
	kind   kind
	reason string
}

// claims returns what the name says about the file: the kinds of its
// extensions, and how it deceives.
func (n *named) claims() (all []claim) {
	dangerous := false
	for _, base := range n.bases {
		k, ext := kindOfName(base)
		if k == "" {
			continue
		}
		all = append(all, claim{k, "the name ends in ." + ext})
		if !slices.Contains(runs, k) {
			continue
		}
		dangerous = true
		stem := strings.TrimRight(strings.TrimSuffix(strings.ToLower(base), "."+ext), " ._-")
		if inner, innerExt := kindOfName(stem); slices.Contains(documents, inner) {
			all = append(all, claim{doubleExtension, "." + innerExt + " stands before ." + ext})
		}
	}
	for _, t := range n.tricks {
		if dangerous || t != "names an NTFS stream" {
			all = append(all, claim{disguisedName, "the name " + t})
		}
	}
	return all
}

// kindOfName returns the kind that the end of a name means, and that end.
func kindOfName(base string) (kind, string) {
	dot := strings.LastIndexByte(base, '.')
	if dot < 0 {
		return "", ""
	}
	ext := strings.ToLower(strings.TrimSpace(base[dot+1:]))
	if len(ext) == 38 && ext[0] == '{' && ext[37] == '}' {
		// Windows opens a name that ends in a class identifier with that class.
		return script, ext
	}
	if k, ok := extensions[ext]; ok {
		return k, ext
	}
	if len(ext) == 3 && strings.IndexByte("rz0", ext[0]) >= 0 && strings.Trim(ext[1:], "0123456789") == "" {
		return archive, ext // a volume of an archive: r00, z01, 001
	}
	return "", ext
}
