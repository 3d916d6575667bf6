package mail

import (
	"crypto/sha256"
	"io"
	"strconv"
	"strings"
)

// A PartID says where a part stands in the content tree: "" is the message,
// "2" its second part, "2.1" the first part of that. Members of archives and
// other readings of a part are numbered after its other children.
type PartID string

// A Part is a node of the content tree: a MIME part, an attached message, a
// file written into text, a member of an archive, or another reading of any of
// these. All methods are safe for concurrent use.
type Part struct {
	m        *Message
	src      *source
	parent   *Part
	children []*Part
	header   Header
	start    int64 // of its header, in src
	body     int64
	end      int64
	number   int32
	depth    int32

	encoding  encoding
	container bool // multipart, or a message: its children are its content
	leafToo   bool // a container whose own bytes some client shows
	embedded  bool // a line of it begins a file in text
	reading   bool // another reading of its parent or siblings
	plain     bool // its Content-Type, if any, has one reading and names no file
	mediaType string
	charset   string // if plain
	boundary  *string
	odd       *oddities   // nil in an ordinary part
	looked    *b64Decoder // what scanning has seen of its base64; nil: nothing
	member    *Member     // of an archive
	allowed   int64       // bytes that the member may unpack to

	content content
	reads   lazy[[][]byte]
	naming  lazy[[]string]
	params  lazy[map[string]string]
	text    lazy[string]
	hash    lazy[[sha256.Size]byte]
}

// oddities are the other readings of a part's header.
type oddities struct {
	types      []string   // every media type, the effective one first
	encodings  []encoding // every transfer encoding, the effective one first
	boundaries []string
	charsets   []string
}

// ID returns where the part stands.
func (p *Part) ID() PartID {
	if p == nil || p.parent == nil {
		return ""
	}
	var buf [64]byte
	return PartID(p.appendID(buf[:0]))
}

func (p *Part) appendID(b []byte) []byte {
	if p.parent == nil {
		return b
	}
	if b = p.parent.appendID(b); len(b) > 0 {
		b = append(b, '.')
	}
	return strconv.AppendInt(b, int64(p.number), 10)
}

// Parent returns the part that this one is in; nil for the message.
func (p *Part) Parent() *Part { return p.parent }

// Children returns the parts in this one. An Unpacker must not call it.
func (p *Part) Children() []*Part {
	p.m.tree()
	return p.children
}

// appendTree appends p and all parts in it.
func (p *Part) appendTree(list []*Part) []*Part {
	list = append(list, p)
	for _, c := range p.children {
		list = c.appendTree(list)
	}
	return list
}

// Header returns the part's header. That of an archive member is empty.
func (p *Part) Header() *Header { return &p.header }

// MediaType returns the effective media type in lower case, such as
// "text/plain".
func (p *Part) MediaType() string { return p.mediaType }

// MediaTypes returns every media type that a mail client might take the part
// for; the first is MediaType.
func (p *Part) MediaTypes() []string {
	if p.odd != nil && len(p.odd.types) > 0 {
		return p.odd.types
	}
	return []string{p.mediaType}
}

// Params returns the parameters of the Content-Type, with RFC 2231 pieces put
// together; names are in lower case. It must not be changed.
func (p *Part) Params() map[string]string {
	return p.params.get(func() map[string]string {
		v, _ := p.header.first(idContentType)
		return paramMap(v, p.m.limits.Fields)
	})
}

// Disposition returns the first word of the first Content-Disposition, in lower
// case: "attachment", "inline"; empty if there is none.
func (p *Part) Disposition() string {
	v, _ := p.header.first(idDisposition)
	v, _, _ = cutByte(v, ';')
	return strings.ToLower(string(trimSpace(stripComments(v))))
}

// Encoding returns the effective transfer encoding: "7bit", "8bit", "binary",
// "base64", "quoted-printable", "x-uuencode" or "x-yenc".
func (p *Part) Encoding() string {
	if p.encoding == encIdentity {
		if v, ok := p.header.first(idEncoding); ok {
			if w := strings.ToLower(string(trimSpace(v))); w == "8bit" || w == "binary" {
				return w
			}
		}
	}
	return p.encoding.String()
}

// Charset returns the declared character set in lower case; empty if there is
// none.
func (p *Part) Charset() string {
	if p.plain {
		return p.charset
	}
	return strings.ToLower(strings.TrimSpace(p.Params()["charset"]))
}

// Offset returns where the part's raw body begins: in the message, or in the
// decoded content of the part above if it is InMessage no more.
func (p *Part) Offset() int64 { return p.body }

// Length returns the number of bytes of the raw body; for a member of an
// archive, the size that the archive declares.
func (p *Part) Length() int64 {
	if p.member != nil {
		return p.member.Size
	}
	return max(p.end-p.body, 0)
}

// InMessage reports whether the part's bytes stand in the message as they are,
// so that Editor can replace it.
func (p *Part) InMessage() bool { return p.src == p.m.src && p.member == nil }

// Entity returns the part itself, or the nearest one above it that Editor can
// replace: for a member of an archive, the attachment that it came in.
func (p *Part) Entity() *Part {
	for q := p; ; q = q.parent {
		if q.InMessage() || q.parent == nil {
			return q
		}
	}
}

// Reading reports whether the part is only seen by clients that read the
// message in an unusual way.
func (p *Part) Reading() bool { return p.reading }

// IsLeaf reports whether the part has content of its own to look at: it is no
// container, or some client shows it as if it were none.
func (p *Part) IsLeaf() bool { return !p.container || p.leafToo }

// IsAttachment reports whether a mail client shows the part as a file.
func (p *Part) IsAttachment() bool {
	switch {
	case !p.IsLeaf():
		return false
	case p.member != nil, p.Disposition() == "attachment", len(p.Names()) > 0:
		return true
	case p.container:
		return false
	}
	for _, t := range p.MediaTypes() {
		if !strings.HasPrefix(t, "text/") && !strings.HasPrefix(t, "multipart/") && !strings.HasPrefix(t, "message/") {
			return p.parent != nil || p.Length() > 0
		}
	}
	return false
}

// Encrypted reports whether the part's content is encrypted: CMS enveloped
// data, OpenPGP/MIME, or an encrypted member of an archive.
func (p *Part) Encrypted() bool {
	if p.member != nil {
		return p.member.Encrypted
	}
	for _, t := range p.MediaTypes() {
		switch t {
		case "multipart/encrypted":
			return true
		case "application/pkcs7-mime", "application/x-pkcs7-mime":
			// RFC 8551 section 3.2.2: signed-data and compressed-data can be read.
			switch strings.ToLower(p.Params()["smime-type"]) {
			case "signed-data", "certs-only", "compressed-data":
			default:
				return true
			}
		}
	}
	if p.parent != nil && p.number == 2 {
		return p.parent.mediaType == "multipart/encrypted"
	}
	return false
}

// Hash returns the SHA-256 of the decoded content.
func (p *Part) Hash() [sha256.Size]byte {
	return p.hash.get(func() (sum [sha256.Size]byte) {
		h := sha256.New()
		if _, err := io.Copy(h, p.Open()); err != nil {
			return sum // the error comes back from Bytes; no file has this hash
		}
		h.Sum(sum[:0])
		return sum
	})
}
