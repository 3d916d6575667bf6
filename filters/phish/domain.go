package phish

import (
	"strings"

	"golang.org/x/net/idna"

	"postern/mail"
)

// A protected domain is one that others must not pretend to be.
type protected struct {
	name   string // A-labels
	text   string // what people read
	folded string
	blurry string // folded and blurred; empty if it is too short to be mistaken
}

// shortest is the length that a domain's first label must have so that a letter
// mistaken, missing or added makes a look-alike: shorter names are too many.
const shortest = 5

func protect(domain string) protected {
	p := protected{name: domain, text: readable(domain)}
	p.folded = fold(p.text)
	if label, _, _ := strings.Cut(p.folded, "."); len(label) >= shortest {
		p.blurry = blur(p.folded)
	}
	return p
}

// readable returns a domain as mail clients show it.
func readable(domain string) string {
	text, err := idna.Punycode.ToUnicode(domain)
	if err != nil {
		return domain
	}
	return text
}

// covers reports whether a domain is the protected one or lies below it.
func (p *protected) covers(domain string) bool {
	return mail.Within(domain, p.name)
}

// resembled says in what way an author's domain looks like the protected one;
// empty: in none. folded is what people read of a domain that p does not cover.
func (p *protected) resembled(folded string) string {
	tail := lastLabels(folded, strings.Count(p.folded, ".")+1)
	switch {
	case tail == p.folded:
		return "letters that look the same"
	case strings.Contains("."+folded, "."+p.folded+"."):
		return "it begins with it"
	case p.blurry == "":
		return ""
	}
	switch misread := blur(tail); {
	case misread == p.blurry:
		return "letters easily misread"
	case near(firstLabels(tail, p.folded)), near(firstLabels(misread, p.blurry)):
		return "one letter differs"
	}
	return ""
}

// firstLabels returns the first label of each if the rest is the same.
func firstLabels(a, b string) (string, string) {
	la, ra, _ := strings.Cut(a, ".")
	lb, rb, _ := strings.Cut(b, ".")
	if ra != rb {
		return "", ""
	}
	return la, lb
}

// lastLabels returns the last n labels of a domain.
func lastLabels(domain string, n int) string {
	for i := len(domain) - 1; i >= 0; i-- {
		if domain[i] == '.' {
			if n--; n == 0 {
				return domain[i+1:]
			}
		}
	}
	return domain
}
