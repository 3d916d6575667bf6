package dmarc

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"postern/mail"
)

// A URI says where reports are to go.
type URI struct {
	Text  string
	Limit int64 // bytes of a message; 0: none given
}

// uri matches a URI as far as it matters here: a scheme and something after it.
var uri = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$`)

// size matches the limit that RFC 7489 had at the end of a URI. RFC 9989 has
// none, but who still writes it means it.
var size = regexp.MustCompile(`!([0-9]{1,12})([kKmMgGtT]?)$`)

// uris returns the URIs of a list. What is none is left out.
func uris(list string) []URI {
	var all []URI
	for _, text := range strings.Split(list, ",") {
		u := URI{Text: strings.TrimSpace(text)}
		if m := size.FindStringSubmatch(u.Text); m != nil {
			u.Text = strings.TrimSuffix(u.Text, m[0])
			u.Limit, _ = strconv.ParseInt(m[1], 10, 64) // twelve digits fit
			for range 1 + strings.Index("kmgt", strings.ToLower(m[2] + " ")[:1]) {
				u.Limit = min(u.Limit, 1<<50) << 10
			}
		}
		if uri.MatchString(u.Text) {
			all = append(all, u)
		}
	}
	return all
}

// address returns the address of a mailto URI (RFC 6068 section 2): one address,
// without what stands behind a question mark.
func (u URI) address() (mail.Path, bool) {
	scheme, rest, _ := strings.Cut(u.Text, ":")
	if !strings.EqualFold(scheme, "mailto") {
		return mail.Path{}, false
	}
	rest, _, _ = strings.Cut(rest, "?")
	text, err := url.PathUnescape(rest)
	if err != nil {
		return mail.Path{}, false
	}
	p, err := mail.ParsePath(text, false)
	return p, err == nil && isDomain(p.Domain) && strings.Contains(p.Domain, ".")
}
