package attachments

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/mail"
)

// An examiner works out what the parts of one message are.
type examiner struct {
	unpack Unpack
	why    map[mail.PartID]string // why parts could not be opened
	inside map[*mail.Part]bool    // documents that are archives for programs, not for people
	head   []byte                 // what is looked at of one part after the other
}

// examine returns what p is: nothing for what people do not get as a file.
func (e *examiner) examine(p *mail.Part) []claim {
	claims := e.byType(p)
	if p.IsLeaf() {
		content := e.byContent(p)
		claims = append(claims, content...)
		claims = append(claims, lies(p, content)...)
	}
	if why, ok := e.why[p.ID()]; ok && p.IsLeaf() {
		claims = append(claims, claim{notOpened, why})
	}
	for _, shown := range p.Names() {
		name := readName(shown)
		claims = append(claims, name.claims()...)
	}
	if has(claims, archive) && !has(claims, notOpened) && has(claims, unknown) {
		claims = append(claims, claim{notOpened, "it is called an archive, but nobody knows what it is"})
	}
	switch {
	case isBody(p):
		claims = keep(claims, func(k kind) bool { return slices.Contains(opaque, k) })
	case e.inDocument(p):
		claims = keep(claims, func(k kind) bool {
			return k == notOpened || k == oddArchive || k != html && k != svg && k != oneNote && slices.Contains(runs, k)
		})
	case len(claims) == 0 && p.IsLeaf():
		claims = append(claims, claim{unknown, "unknown content"})
	}
	return unique(claims)
}

// isBody reports whether p is text that people read, not a file.
func isBody(p *mail.Part) bool {
	if !p.InMessage() || len(p.Names()) > 0 || p.Disposition() == "attachment" {
		return false
	}
	for _, t := range p.MediaTypes() {
		if !strings.HasPrefix(t, "text/") && !strings.HasPrefix(t, "multipart/") {
			return p.Parent() == nil && p.Length() == 0
		}
	}
	return true
}

// inDocument reports whether p is a piece of an office document.
func (e *examiner) inDocument(p *mail.Part) bool {
	for q := p.Parent(); q != nil; q = q.Parent() {
		if e.inside[q] {
			return true
		}
	}
	return false
}

func keep(claims []claim, wanted func(kind) bool) []claim {
	return slices.DeleteFunc(claims, func(c claim) bool { return !wanted(c.kind) })
}

func has(claims []claim, k kind) bool {
	return slices.ContainsFunc(claims, func(c claim) bool { return c.kind == k })
}

// unique drops claims that are there twice, and unknown where something is
// known.
func unique(claims []claim) []claim {
	var out []claim
	known := slices.ContainsFunc(claims, func(c claim) bool { return c.kind != unknown && c.kind != mismatch })
	for _, c := range claims {
		if !slices.Contains(out, c) && (c.kind != unknown || !known) {
			out = append(out, c)
		}
	}
	return out
}

// byType returns what the declared types say, where that alone makes clients
// act: a type that only describes is no claim.
func (e *examiner) byType(p *mail.Part) (claims []claim) {
	for _, t := range p.MediaTypes() {
		k := kindOfType(t)
		switch {
		case k == partial, k == externalBody, k == message && p.Parent() != nil, k == crypto,
			slices.Contains(runs, k) && (k != html || !isBody(p)):
			claims = append(claims, claim{k, "declared as " + t})
		}
	}
	return claims
}

// byContent returns what the bytes say, in every reading.
func (e *examiner) byContent(p *mail.Part) []claim {
	if p.Encrypted() {
		if !p.InMessage() {
			return []claim{{encryptedArchive, "it is encrypted"}}
		}
		return nil
	}
	if e.head == nil {
		e.head = make([]byte, headSize)
	}
	head := e.head
	n, err := io.ReadFull(p.Open(), head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		claims := []claim{{notOpened, "it could not be read: " + err.Error()}}
		if n == 0 {
			return claims
		}
		return append(claims, e.contentOf(p, head[:n])...)
	}
	claims := e.contentOf(p, head[:n])
	for _, b := range p.Readings() {
		f := identify(b[:min(len(b), headSize)])
		claims = append(claims, claim{f.kind, f.what + " when it is decoded another way"})
	}
	return claims
}

// contentOf returns what the main reading of p is.
func (e *examiner) contentOf(p *mail.Part, head []byte) []claim {
	f := identify(head)
	switch {
	case isZip(head), f.kind != archive && claimsZip(p) && len(p.Children()) > 0:
		return e.zip(p, f)
	case bytes.HasPrefix(head, []byte(oleMagic)):
		return oleClaims(p)
	case f.kind == archive:
		return e.otherArchive(p, f)
	case f.kind == unknown || len(head) == headSize && claimsDisk(p):
		if g, ok := identifyTail(tailOf(p)); ok {
			f = g
		}
	}
	claims := []claim{{f.kind, f.what}}
	if f.kind != diskImage && len(head) > 0x8006 && string(head[0x8001:0x8006]) == "CD001" {
		claims = append(claims, claim{diskImage, "ISO 9660 image"})
	}
	return claims
}

// claimsDisk reports whether a name of p is that of a disk image.
func claimsDisk(p *mail.Part) bool {
	return slices.ContainsFunc(p.Names(), func(shown string) bool { k, _ := kindOfName(shown); return k == diskImage })
}

// tailOf reads a part to its end and returns its last bytes.
func tailOf(p *mail.Part) []byte {
	r := p.Open()
	buf := make([]byte, 64<<10)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		kept += n
		if err != nil {
			return buf[:kept] // a failed read was reported for the head, or is a shorter tail
		}
		kept = copy(buf, buf[len(buf)-tailSize:])
	}
}

// otherArchive judges an archive that is no ZIP file.
func (e *examiner) otherArchive(p *mail.Part, f format) []claim {
	claims := []claim{{archive, f.what}}
	if _, known := e.why[p.ID()]; len(p.Children()) == 0 && !known {
		claims = append(claims, claim{notOpened, f.what + ", which is not opened here"})
	}
	return claims
}

// zip judges a ZIP file by what is in it. before is what its first bytes are.
func (e *examiner) zip(p *mail.Part, before format) []claim {
	b, err := p.Bytes()
	if err != nil {
		return []claim{{archive, "ZIP archive"}, {notOpened, "it could not be read: " + err.Error()}}
	}
	z := readZip(b, e.unpack.Members)
	claims := z.claims()
	if before.kind != archive {
		claims = append(claims, claim{before.kind, before.what}, claim{oddArchive, "an archive stands after " + before.what})
	}
	if len(p.Children()) == 0 && len(z.members) > 0 && e.why[p.ID()] == "" {
		claims = append(claims, claim{notOpened, "the archive was not opened"})
	}
	if document := claims[0].kind; (document == office || document == macro) && namedOnly(p, office, macro) {
		e.inside[p] = true
		if document == office {
			claims = keep(claims, func(k kind) bool { return k != archive })
		}
	}
	return claims
}

// namedOnly reports whether every name of p is of one of the kinds.
func namedOnly(p *mail.Part, wanted ...kind) bool {
	for _, shown := range p.Names() {
		if k, _ := kindOfName(shown); k != "" && !slices.Contains(wanted, k) {
			return false
		}
	}
	return true
}

// claims tells what a ZIP file is from the names in it: the first claim is its
// main kind.
func (z *zipFile) claims() []claim {
	main := claim{archive, "ZIP archive"}
	var more []claim
	add := func(k kind, why string) { more = append(more, claim{k, why}) }
	for i := range z.members {
		m := &z.members[i]
		name := strings.ToLower(plainZipName(m.name))
		base := name[strings.LastIndexByte(name, '/')+1:]
		switch {
		case name == "[content_types].xml":
			main = claim{office, "Office document"}
		case base == "vbaproject.bin":
			add(macro, "VBA macros in "+m.name)
		case strings.HasPrefix(name, "xl/macrosheets/"):
			add(macro, "Excel 4 macro sheet "+m.name)
		case name == "mimetype" && main.kind == archive && bytes.Contains(z.stored(m, 80), []byte("opendocument")):
			main = claim{office, "OpenDocument file"}
		case strings.HasPrefix(name, "basic/") && base == "script-lb.xml", strings.HasPrefix(name, "scripts/") && base != "" && main.kind == office:
			add(macro, "macros in "+m.name)
		case name == "androidmanifest.xml":
			main = claim{installer, "Android package"}
		case name == "meta-inf/manifest.mf" && main.kind == archive:
			add(java, "Java archive")
		case name == "appxmanifest.xml", name == "extension.vsixmanifest":
			main = claim{installer, "Windows package"}
		}
		if m.encrypted {
			add(encryptedArchive, fmt.Sprintf("its member %s is encrypted", m.name))
		}
	}
	claims := append([]claim{main}, firsts(more)...)
	if main.kind != archive {
		claims = append(claims, claim{archive, "ZIP archive"})
	}
	for _, what := range z.odd {
		claims = append(claims, claim{oddArchive, what})
	}
	for _, what := range z.damaged {
		claims = append(claims, claim{notOpened, what})
	}
	return claims
}

// firsts returns the first three claims of each kind.
func firsts(claims []claim) []claim {
	count := map[kind]int{}
	return slices.DeleteFunc(claims, func(c claim) bool { count[c.kind]++; return count[c.kind] > 3 })
}

// stored returns the first bytes of a member that is not packed.
func (z *zipFile) stored(m *zipMember, n int64) []byte {
	if m.method != methodStore || m.data >= int64(len(z.b)) {
		return nil
	}
	return z.b[m.data:min(m.data+n, int64(len(z.b)))]
}

// oleClaims judges an OLE file.
func oleClaims(p *mail.Part) (claims []claim) {
	b, err := p.Bytes()
	if err != nil {
		return []claim{{office, "OLE document"}, {notOpened, "it could not be read: " + err.Error()}}
	}
	f := readOLE(b)
	if f == nil {
		return []claim{{office, "OLE document"}, {notOpened, "the OLE document is cut"}}
	}
	for _, g := range f.formats() {
		claims = append(claims, claim{g.kind, g.what})
	}
	return claims
}

// lies compares what the names and types of p say with what it is.
func lies(p *mail.Part, content []claim) (claims []claim) {
	if len(content) == 0 || slices.Contains([]kind{unknown, text, notOpened, encryptedArchive}, content[0].kind) {
		return nil
	}
	real := content[0]
	agrees := func(named kind) bool {
		return slices.ContainsFunc(content, func(c claim) bool { return agree(named, c.kind) })
	}
	honest := false
	for _, shown := range p.Names() {
		name := readName(shown)
		for _, base := range name.bases {
			k, ext := kindOfName(base)
			if !agrees(k) {
				claims = append(claims, claim{mismatch, fmt.Sprintf("the name ends in .%s, the content is %s", ext, real.reason)})
			}
			honest = honest || k != "" && agrees(k)
		}
	}
	for _, t := range p.MediaTypes() {
		if k := kindOfType(t); !agrees(k) && !(honest && k == text) && (p.InMessage() || k != text) {
			claims = append(claims, claim{mismatch, fmt.Sprintf("declared as %s, the content is %s", t, real.reason)})
		}
	}
	return claims
}
