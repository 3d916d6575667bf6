package mail

import (
	"cmp"
	"slices"
)

// Findings returns what is odd, malformed or beyond the limits in the whole
// content tree, in order of the parts and of the offsets; at most 16 of each
// kind.
func (m *Message) Findings() []Finding {
	return m.finding.get(func() []Finding {
		parts := m.Parts()
		notes := notebook{}
		for _, f := range m.notes.list {
			notes.add(f.kind, f.part, f.offset, []byte(f.evidence))
		}
		for _, p := range parts {
			p.check(&notes)
		}
		if len(notes.list) == 0 {
			return nil
		}
		order := make(map[*Part]int, len(parts))
		for i, p := range parts {
			order[p] = i
		}
		slices.SortStableFunc(notes.list, func(a, b found) int {
			return cmp.Or(cmp.Compare(order[a.part], order[b.part]), cmp.Compare(a.offset, b.offset))
		})
		var out []Finding
		for _, f := range notes.list {
			if f.part != nil && order[f.part] == 0 && f.part != parts[0] {
				continue // a reading that found nothing new
			}
			out = append(out, Finding{Kind: f.kind, Part: f.part.ID(), Offset: f.offset, Evidence: f.evidence})
		}
		return out
	})
}

// check looks at the content of one part: what can only be seen in its body, or
// takes longer than the structure.
func (p *Part) check(notes *notebook) {
	if p.src == nil || p.member != nil {
		return
	}
	if len(p.header.fields) > 0 {
		_, kinds := p.readNames()
		for _, k := range kinds {
			notes.add(k, p, p.start, []byte(firstName(p)))
		}
	}
	if !p.IsLeaf() {
		return
	}
	b, quoted := p.remarks()
	switch {
	case b.after:
		notes.add(Base64AfterEnd, p, p.body, nil)
	case b.junk:
		notes.add(BadBase64, p, p.body, nil)
	}
	if quoted {
		notes.add(BadQuoted, p, p.body, nil)
	}
	p.checkCharset(notes)
}

// firstName returns the name that is shown.
func firstName(p *Part) string {
	if names := p.Names(); len(names) > 0 {
		return names[0]
	}
	return ""
}

// checkCharset looks at the declared charset of text.
func (p *Part) checkCharset(notes *notebook) {
	if len(p.mediaType) < 5 || p.mediaType[:5] != "text/" {
		return
	}
	cs := p.Charset()
	if cs == "" || cs == "utf-8" || cs == "us-ascii" || cs == "iso-8859-1" {
		return
	}
	_, known := decodeCharset(nil, cs)
	switch {
	case !known:
		notes.add(UnknownCharset, p, p.start, []byte(cs))
	case isASCIIUnsafe(cs):
		notes.add(OddCharset, p, p.start, []byte(cs))
	}
}

// isASCIIUnsafe reports whether text in the charset looks like other text to
// those who do not know it: it can hide markup.
func isASCIIUnsafe(cs string) bool {
	switch cs {
	case "utf-7", "utf7", "unicode-1-1-utf-7", "hz-gb-2312", "utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be":
		return true
	}
	return false
}
