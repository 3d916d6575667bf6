package phish

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName bounds what is read of a display name: nobody reads more.
const maxName = 1000

// shown returns the texts that people may read in a display name, folded: as it
// stands, and from its end where a character turns it round.
func shown(name string) []string {
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	texts := []string{fold(name)}
	if strings.ContainsFunc(name, overriding) {
		texts = append(texts, reversed(texts[0]))
	}
	return texts
}

// domainsIn returns the domain of each mail address in a text.
func domainsIn(text string) []string {
	var all []string
	for {
		before, rest, ok := strings.Cut(text, "@")
		if !ok {
			return all
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return !domainRune(r) })
		if end < 0 {
			end = len(rest)
		}
		if d := strings.Trim(rest[:end], "."); before != "" && strings.Contains(d, ".") {
			all = append(all, d)
		}
		text = rest[end:]
	}
}

// domainRune reports whether a character can stand in a domain: no quotation
// mark, dash or picture does.
func domainRune(r rune) bool {
	return r == '-' || r == '.' || unicode.In(r, unicode.L, unicode.M, unicode.Nd)
}

// hasWord reports whether a domain stands in a text, not as a part of another.
func hasWord(text, domain string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], domain)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(domain)
		at = to
		before, _ := utf8.DecodeLastRuneInString(text[:from])
		after, _ := utf8.DecodeRuneInString(strings.TrimPrefix(text[to:], "."))
		if (before == '.' || !domainRune(before)) && !domainRune(after) {
			return true
		}
	}
}

// person returns a name so that order, case, accents and punctuation make no
// difference: "DUPONT, Jeanne" and "Jeanne Dupont" are one.
func person(name string) string {
	words := strings.FieldsFunc(fold(name), func(r rune) bool { return !unicode.In(r, unicode.L, unicode.M, unicode.Nd) })
	slices.Sort(words)
	return strings.Join(words, " ")
}
