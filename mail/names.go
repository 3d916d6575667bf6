package mail

import (
	"path"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// maxNames bounds the names of one part.
const maxNames = 64

// Names returns every name that a mail client might show or save the part
// under, the likeliest first: filename and name, of every field, with RFC 2231
// and RFC 2047 decoded and not, cut at NUL, without what file systems ignore.
// They are names, never paths: directories are cut off, but for the first form
// as it is written.
func (p *Part) Names() []string {
	return p.naming.get(func() []string { names, _ := p.readNames(); return names })
}

// readNames collects the names, and what is odd about them.
func (p *Part) readNames() ([]string, []FindingKind) {
	if p.member != nil {
		return variants([]string{p.member.Name}), nil
	}
	if p.plain && p.header.count(idDisposition) == 0 {
		return nil, nil
	}
	var filenames, names []string
	var notes []FindingKind
	var pieces []param // of all fields
	split := 0         // fields that hold some
	for i := range p.header.fields {
		id := p.header.fields[i].id
		if id != idContentType && id != idDisposition {
			continue
		}
		_, params, full := readParams(p.header.field(i).Value(), p.m.limits.Fields)
		if full {
			notes = append(notes, LimitFields)
		}
		before := len(pieces)
		for _, q := range params {
			if q.piece >= 0 && (q.name == "filename" || q.name == "name") {
				pieces = append(pieces, q)
			}
		}
		if len(pieces) > before {
			split++
		}
		f, fn := paramReadings(params, "filename")
		n, nn := paramReadings(params, "name")
		notes = append(append(notes, fn...), nn...)
		if id == idContentType {
			names = append(append(names, n...), f...)
		} else {
			filenames = append(append(filenames, f...), n...)
		}
	}
	if split > 1 { // a client may put together what stands in several fields
		names = append(names, joinPieces(pieces)...)
		notes = append(notes, ContinuationClash)
	}
	all := appendNew(appendNew(nil, filenames...), names...)
	kept := all[:0]
	for _, n := range all {
		if n != "" {
			kept = append(kept, n)
		}
	}
	if len(kept) == 0 {
		return nil, notes
	}
	notes = append(notes, remarkNames(filenames, names, kept)...)
	return variants(kept), notes
}

// remarkNames says what is odd about names.
func remarkNames(filenames, names, all []string) (notes []FindingKind) {
	if len(filenames) > 0 && len(names) > 0 && DecodeHeader(filenames[0]) != DecodeHeader(names[0]) {
		notes = append(notes, NameMismatch)
	}
	for _, n := range all {
		if strings.IndexByte(n, 0) >= 0 {
			notes = append(notes, NameNUL)
		}
		if strings.Contains(n, "=?") && DecodeHeader(n) != n {
			notes = append(notes, EncodedWordName)
		}
	}
	return notes
}

// variants returns the names and what clients and file systems make of them.
func variants(names []string) []string {
	var out []string
	add := func(n string) {
		if n != "" && len(out) < maxNames {
			out = appendNew(out, n)
		}
	}
	for _, n := range names {
		add(DecodeHeader(n)) // first what is shown
	}
	for _, n := range names {
		add(rawText(n))
		add(percentDecode(n))
		if cs, text := splitCharset(n); cs != "" {
			add(percentDecode(text)) // the extended form where the plain one was due
		}
	}
	for _, n := range append([]string(nil), out...) {
		for _, v := range disguises(n) {
			add(v)
		}
	}
	return out
}

// disguises returns what else a name can end up as.
func disguises(n string) []string {
	out := []string{path.Base(strings.ReplaceAll(n, `\`, "/"))}
	if before, _, nul := strings.Cut(n, "\x00"); nul {
		out = append(out, before, strings.ReplaceAll(n, "\x00", ""))
	}
	clean := strings.Map(func(r rune) rune {
		if isInvisible(r) {
			return -1
		}
		return r
	}, n)
	out = append(out, clean, norm.NFKC.String(clean))
	// Windows drops blanks and dots at the end, and takes what follows a colon
	// for the name of a stream.
	out = append(out, strings.TrimRight(clean, ". "))
	if before, after, stream := strings.Cut(clean, ":"); stream {
		out = append(out, before, after)
	}
	return out
}

// isInvisible reports whether a character changes how a name looks without
// being seen: bidirectional controls, zero widths, other controls.
func isInvisible(r rune) bool {
	switch {
	case r < ' ', r == 0x7f, r == 0xAD, r == 0xFEFF, r >= 0x80 && r < 0xA0:
		return true
	case r >= 0x200B && r <= 0x200F, r >= 0x202A && r <= 0x202E, r >= 0x2060 && r <= 0x2069:
		return true
	}
	return false
}
