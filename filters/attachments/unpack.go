package attachments

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern/filters"
	"postern/mail"
)

// ratioFloor is how many bytes may come out of a file whatever its ratio: a few
// hundred equal lines pack very well.
const ratioFloor = 1 << 20

// An Unpack holds the limits of unpacking.
type Unpack struct {
	Depth   int              `toml:"depth" doc:"archives in archives that are opened"`
	Members int              `toml:"members" doc:"members of one archive that are looked at"`
	Bytes   filters.Bytes    `toml:"bytes" doc:"what one message may unpack to, in all"`
	Ratio   int              `toml:"ratio" doc:"how many times its size a member may unpack to, beyond the first MB"`
	Time    filters.Duration `toml:"time" doc:"time for reading the structure of one message and unpacking it"`
}

// defaultUnpack is what honest mail stays below.
var defaultUnpack = Unpack{Depth: 10, Members: 5000, Bytes: 200 << 20, Ratio: 100, Time: filters.Duration(10e9)}

// errRatio says that a member unpacks to far more than it is.
var errRatio = fmt.Errorf("%w: it unpacks to far more than its size", mail.ErrLimit)

// errDepth says that archives are nested too deeply.
var errDepth = fmt.Errorf("%w: archives are nested too deeply", mail.ErrLimit)

// Unpackers returns what opens archives while a message is parsed, so that
// their members are parts like all others.
func (c *Checker) Unpackers() []mail.Unpacker {
	return []mail.Unpacker{c.open}
}

// open opens the archives that we know.
func (c *Checker) open(p *mail.Part) ([]mail.Member, error) {
	switch head := sniff(p, 8); {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return c.unpackGzip(p)
	case isZip(head), len(head) > 0 && claimsZip(p):
		return c.unpackZip(p, head)
	}
	return nil, nil
}

// ParseOptions returns how the gateway parses messages, so that all filters see
// what is in archives.
func (c *Checker) ParseOptions() mail.Options {
	limits := mail.DefaultLimits()
	limits.DecodedBytes = int64(c.Unpack.Bytes)
	if t := c.Unpack.Time; t > 0 {
		limits.Time = t.Time()
	}
	return mail.Options{Limits: limits, Unpack: c.Unpackers()}
}

// level counts the archives that a part lies in.
func level(p *mail.Part) int {
	n := 0
	for q := p; q != nil && !q.InMessage(); q = q.Parent() {
		n++
	}
	return n
}

// unpackZip lists the members of a ZIP archive, also of one that only its name
// or type tells: readers find the archive at the end of a file.
func (c *Checker) unpackZip(p *mail.Part, head []byte) ([]mail.Member, error) {
	b, err := p.Bytes()
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	if !isZip(head) && !bytes.Contains(b, []byte(zipEnd)) {
		return nil, nil
	}
	if level(p) >= c.Unpack.Depth {
		return nil, errDepth
	}
	z := readZip(b, c.Unpack.Members)
	if z.overlap {
		return nil, fmt.Errorf("%w: members of the archive share their data", mail.ErrLimit)
	}
	if len(z.members) > 0 { // they are read from it later
		if err := p.Retain(cap(b)); err != nil {
			return nil, err
		}
	}
	members := make([]mail.Member, 0, len(z.members))
	for i := range z.members {
		m := &z.members[i]
		members = append(members, mail.Member{
			Name: m.name, Size: m.size, Encrypted: m.encrypted,
			Open: func() (io.ReadCloser, error) { return c.openMember(z, m) },
		})
	}
	switch m := z.bomb(c.Unpack.Ratio); {
	case m != nil:
		return members, fmt.Errorf("%w: %s", errRatio, m.name)
	case len(z.damaged) > 0:
		return members, errors.New(strings.Join(z.damaged, "; "))
	}
	return members, nil
}

// openMember unpacks one member, within the ratio.
func (c *Checker) openMember(z *zipFile, m *zipMember) (io.ReadCloser, error) {
	in, out, err := z.open(m)
	if err != nil {
		return nil, err
	}
	return &ratioReader{ReadCloser: out, in: in, before: in.Len(), ratio: c.Unpack.Ratio}, nil
}

// unpackGzip opens a gzip file: it has one member.
func (c *Checker) unpackGzip(p *mail.Part) ([]mail.Member, error) {
	b, err := p.Bytes()
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	if level(p) >= c.Unpack.Depth {
		return nil, errDepth
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("open gzip file: %w", err)
	}
	if err := p.Retain(cap(b)); err != nil {
		return nil, err
	}
	return []mail.Member{{
		Name: gzipName(r.Name, p),
		Size: -1,
		Open: func() (io.ReadCloser, error) {
			in := bytes.NewReader(b)
			r, err := gzip.NewReader(in)
			if err != nil {
				return nil, err
			}
			before := in.Len()
			r.Multistream(false)
			return &ratioReader{ReadCloser: &lenient{r, in}, in: in, before: before, ratio: c.Unpack.Ratio}, nil
		},
	}}, nil
}

// gzipName returns the name of what is in a gzip file: what it says itself,
// else its own name without the ending.
func gzipName(inner string, p *mail.Part) string {
	if inner != "" {
		return inner
	}
	for _, n := range p.Names() {
		lower := strings.ToLower(n)
		switch {
		case strings.HasSuffix(lower, ".tgz"):
			return n[:len(n)-len(".tgz")] + ".tar"
		case strings.HasSuffix(lower, ".svgz"), strings.HasSuffix(lower, ".wmz"), strings.HasSuffix(lower, ".emz"):
			return n[:len(n)-1]
		case strings.HasSuffix(lower, ".gz"):
			return n[:len(n)-len(".gz")]
		}
	}
	return ""
}

// lenient reads the gzip files that stand one after the other, and ends where
// something else follows, as programs do.
type lenient struct {
	*gzip.Reader
	in *bytes.Reader
}

func (l *lenient) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if errors.Is(err, io.EOF) && l.Reader.Reset(l.in) == nil {
		l.Reader.Multistream(false)
		err = nil
	}
	return n, err
}

// A ratioReader ends with errRatio when far more came out than went in.
type ratioReader struct {
	io.ReadCloser
	in     *bytes.Reader
	before int
	ratio  int
	out    int64
}

func (r *ratioReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.out += int64(n)
	if r.out > ratioFloor && r.out/int64(r.ratio) > int64(r.before-r.in.Len()) {
		return n, errRatio
	}
	return n, err
}

// sniff returns the first n bytes of a part.
func sniff(p *mail.Part, n int) []byte {
	if !p.IsLeaf() || p.Encrypted() {
		return nil
	}
	b := make([]byte, n)
	n, _ = io.ReadFull(p.Open(), b)
	return b[:n]
}

// zipNames are the ends of the names of files that are ZIP archives, but for
// office documents.
const zipNames = " zip zipx jar war ear apk xpi docx docm dotx dotm xlsx xlsm xltx xltm xlsb xlam pptx pptm potx potm ppsx ppsm odt ods odp epub msix appx vsix ipa "

// claimsZip reports whether the name or type of a part makes programs look for
// an archive in it.
func claimsZip(p *mail.Part) bool {
	for _, t := range p.MediaTypes() {
		if strings.Contains(t, "zip") && !strings.Contains(t, "gzip") {
			return true
		}
	}
	for _, shown := range p.Names() {
		name := readName(shown)
		for _, base := range name.bases {
			if _, ext := kindOfName(base); ext != "" && strings.Contains(zipNames, " "+ext+" ") {
				return true
			}
		}
	}
	return false
}
