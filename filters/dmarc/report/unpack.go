package report

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern/mail"
)

// Limits of what is read.
const (
	maxPacked   = 32 << 20
	maxUnpacked = 64 << 20 // of one file
	maxAll      = 2 * maxUnpacked
	maxLayers   = 3 // a message, a zip, a gzip
	maxFiles    = 20
)

// ParseReport reads an aggregate report: XML, gzip, zip, or a message that has
// one of them as a part.
func ParseReport(data []byte) (*Report, error) {
	if len(data) > maxPacked {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	u := unpacker{left: maxAll}
	return u.parse(data, maxLayers)
}

// An unpacker reads what may be packed. What it unpacks is bounded over all
// files and layers: archives of archives would grow with each of them.
type unpacker struct{ left int64 }

// parse reads what may be packed in some layers.
func (u *unpacker) parse(data []byte, layers int) (*Report, error) {
	text := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("<")):
		return parseXML(text)
	case layers == 0:
		return nil, fmt.Errorf("%w: packed too often", ErrNotReport)
	case bytes.HasPrefix(data, []byte("\x1f\x8b")):
		return u.parseGzip(data, layers-1)
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return u.parseZip(data, layers-1)
	case layers == maxLayers:
		return u.parseMessage(data, layers-1)
	}
	return nil, fmt.Errorf("%w: neither XML nor gzip nor zip", ErrNotReport)
}

// unpack reads what comes out of r, as far as the limit. What was unpacked
// before an error is kept: some reports end too soon, or have a wrong checksum.
func (u *unpacker) unpack(r io.Reader) ([]byte, error) {
	limit := min(maxUnpacked, u.left)
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	u.left -= int64(len(data))
	switch {
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes unpacked", ErrTooLarge, limit)
	case len(data) == 0 && err != nil:
		return nil, fmt.Errorf("%w: unpack: %w", ErrNotReport, err)
	}
	return data, nil
}

func (u *unpacker) parseGzip(data []byte, layers int) (*Report, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: unpack: %w", ErrNotReport, err)
	}
	z.Multistream(false) // some reporters have something else behind the first member
	inner, err := u.unpack(z)
	if err != nil {
		return nil, err
	}
	return u.parse(inner, layers)
}

// parseZip reads the first report in an archive.
func (u *unpacker) parseZip(data []byte, layers int) (*Report, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("%w: unpack: %w", ErrNotReport, err)
	}
	return u.first(len(z.File), func(i int) ([]byte, error) {
		f := z.File[i]
		if f.FileInfo().IsDir() {
			return nil, fmt.Errorf("%w: a folder", ErrNotReport)
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%w: unpack: %w", ErrNotReport, err)
		}
		defer r.Close()
		return u.unpack(r)
	}, layers)
}

// parseMessage reads the first report among the parts of a message (RFC 9990
// section 3.5; reporters use many media types).
func (u *unpacker) parseMessage(data []byte, layers int) (*Report, error) {
	if !bytes.Contains(data[:min(len(data), 4096)], []byte(":")) {
		return nil, fmt.Errorf("%w: neither XML nor gzip nor zip nor a message", ErrNotReport)
	}
	if i := bytes.IndexByte(data, '\n'); i == 0 || i > 0 && data[i-1] != '\r' {
		data = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
	}
	m := mail.ParseBytes(data, mail.Options{})
	var leaves []*mail.Part
	for _, p := range m.Parts() {
		if p.IsLeaf() && !strings.HasPrefix(p.MediaType(), "text/html") && p.MediaType() != "text/plain" || packedName(p) {
			leaves = append(leaves, p)
		}
	}
	return u.first(len(leaves), func(i int) ([]byte, error) {
		b, err := leaves[i].Bytes()
		if err != nil {
			return nil, fmt.Errorf("%w: read part: %w", ErrNotReport, err)
		}
		return b, nil
	}, layers)
}

// packedName reports whether a part is called like a report.
func packedName(p *mail.Part) bool {
	for _, name := range p.Names() {
		name = strings.ToLower(name)
		if strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".zip") || strings.HasSuffix(name, ".xml") {
			return true
		}
	}
	return false
}

// first returns the first report among candidates, else the last error.
func (u *unpacker) first(n int, content func(i int) ([]byte, error), layers int) (*Report, error) {
	err := fmt.Errorf("%w: there is none in it", ErrNotReport)
	for i := range min(n, maxFiles) {
		data, e := content(i)
		if e == nil {
			var r *Report
			if r, e = u.parse(data, layers); e == nil {
				return r, nil
			}
		}
		if err = e; errors.Is(e, ErrTooLarge) {
			return nil, e
		}
	}
	return nil, err
}
