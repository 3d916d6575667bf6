package phish

import (
	"slices"
	"strings"
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

func domainRune(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r >= 0x80
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
		before := from == 0 || !domainRune(rune(text[from-1])) || text[from-1] == '.'
		after := strings.TrimPrefix(text[to:], ".")
		if before && (after == "" || !domainRune(rune(after[0]))) {
			return true
		}
	}
}

// person returns a name so that order, case, accents and punctuation make no
// difference: "DUPONT, Jeanne" and "Jeanne Dupont" are one.
func person(name string) string {
	words := strings.FieldsFunc(fold(name), func(r rune) bool { return strings.ContainsRune(" \t,.;\"'()<>-_’", r) })
	slices.Sort(words)
	return strings.Join(words, " ")
}
