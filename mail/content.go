package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// cacheLimit is the largest decoded content that a part keeps. What is larger
// is decoded again each time: use Open for that.
const cacheLimit = 4 << 20

// What one message may keep in memory beside its own bytes, however well it is
// packed: of decoded content, and of nested archives that unpackers hold on to.
const (
	cachedMost   = 16 << 20
	retainedMost = 64 << 20
)

// ErrEncrypted is what reading an encrypted member of an archive ends with.
var ErrEncrypted = errors.New("member is encrypted")

// content is the decoded content of a part, once somebody asked for it.
type content struct {
	mu  sync.Mutex
	ok  bool
	b   []byte
	err error
}

// Bytes returns the decoded content; what a member of an archive unpacks to is
// bounded by the limits of the message (ErrLimit). It must not be changed. Up to
// 4 MiB, and 16 MiB of all parts, are kept for the next caller; read larger
// content with Open.
func (p *Part) Bytes() ([]byte, error) {
	if p.direct() {
		return p.src.slice(p.body, p.end-p.body), p.src.failure()
	}
	c := &p.content
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ok {
		return c.b, c.err
	}
	b, err := p.decode()
	if len(b) <= cacheLimit && within(&p.m.cached, int64(len(b)), cachedMost) {
		c.b, c.err, c.ok = b, err, true
	}
	return b, err
}

// within adds n to a count unless that exceeds most.
func within(count *atomic.Int64, n, most int64) bool {
	if count.Add(n) <= most {
		return true
	}
	count.Add(-n)
	return false
}

// Retain says that an Unpacker holds on to the decoded content of p as long as
// there is the message. ErrLimit means that the message makes it hold too much:
// then it lets go and reports the error. What stands in the message itself does
// not count, for it cannot be more than the message is long.
func (p *Part) Retain(n int) error {
	if p.InMessage() || within(&p.m.retained, int64(n), retainedMost) {
		return nil
	}
	return fmt.Errorf("%w: nested archives of more than %d MB", ErrLimit, retainedMost>>20)
}

// direct reports whether the decoded content is a slice of the source.
func (p *Part) direct() bool {
	return p.encoding == encIdentity && p.src != nil && p.src.inMemory()
}

// decode decodes the whole content.
func (p *Part) decode() ([]byte, error) {
	if p.src == nil {
		return readMember(p)
	}
	raw := p.raw()
	out := decodeAs(p.encoding, raw)
	return out, p.src.failure()
}

// raw returns the body as it is written.
func (p *Part) raw() []byte { return p.src.slice(p.body, p.end-p.body) }

// readMember unpacks a member of an archive.
func readMember(p *Part) ([]byte, error) {
	r := p.openMember()
	var buf bytes.Buffer
	if n := p.member.Size; n > 0 && n <= min(p.allowed, cacheLimit) {
		buf.Grow(int(n) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(r)
	return buf.Bytes(), err
}

// decodeAs decodes raw content.
func decodeAs(e encoding, raw []byte) []byte {
	switch e {
	case encBase64:
		return decodeBase64(raw, b64Resume)
	case encQuoted:
		d := qpDecoder{}
		return d.decode(make([]byte, 0, len(raw)), raw, true)
	case encUU, encYEnc:
		if files := findEmbedded(raw, 1); len(files) > 0 {
			return files[0].data
		}
	}
	return raw
}

// decodeBase64 decodes all of raw.
func decodeBase64(raw []byte, mode b64Mode) []byte {
	d := b64Decoder{mode: mode}
	return d.flush(d.decode(make([]byte, 0, len(raw)/4*3+3), raw))
}

// Open reads the decoded content as a stream; for a large part it takes little
// memory. What a member of an archive unpacks to is bounded by the limits of the
// message: reading ends with ErrLimit.
func (p *Part) Open() io.Reader {
	if p.direct() {
		return bytes.NewReader(p.src.slice(p.body, p.end-p.body))
	}
	c := &p.content
	c.mu.Lock()
	have := c.ok && c.err == nil
	c.mu.Unlock()
	switch {
	case have:
		return bytes.NewReader(c.b)
	case p.src == nil:
		return p.openMember()
	}
	r := &decodeReader{r: p.src.reader(p.body, p.end-p.body), src: p.src}
	switch p.encoding {
	case encBase64:
		d := &b64Decoder{}
		r.step = func(dst, src []byte, last bool) []byte {
			if dst = d.decode(dst, src); last {
				dst = d.flush(dst)
			}
			return dst
		}
	case encQuoted:
		d := &qpDecoder{}
		r.step = d.decode
	case encUU, encYEnc:
		b, err := p.Bytes()
		if err != nil {
			return &failedReader{err}
		}
		return bytes.NewReader(b)
	default:
		r.step = func(dst, src []byte, _ bool) []byte { return append(dst, src...) }
	}
	return r
}

// A decodeReader decodes while it is read.
type decodeReader struct {
	r    io.Reader
	src  *source
	step func(dst, src []byte, last bool) []byte
	in   []byte
	out  []byte // decoded, not read yet
	buf  []byte
	err  error
}

// Read implements io.Reader.
func (d *decodeReader) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		if d.in == nil {
			d.in = make([]byte, 32<<10)
		}
		n, err := d.r.Read(d.in)
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("read message: %w", err)
			d.src.fail(err)
		}
		d.err = err
		d.buf = d.step(d.buf[:0], d.in[:n], errors.Is(err, io.EOF))
		d.out = d.buf
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// A failedReader only fails.
type failedReader struct{ err error }

// Read implements io.Reader.
func (r *failedReader) Read([]byte) (int, error) { return 0, r.err }

// Readings returns what other mail clients decode the part to, where they
// disagree with Bytes: another of several transfer encodings, stray bytes or
// padding in base64, bad escapes in quoted-printable, and text in another of
// several charsets, as UTF-8. It is empty for an ordinary part.
func (p *Part) Readings() [][]byte {
	if p.src == nil || p.member != nil {
		return nil
	}
	return p.reads.get(func() [][]byte {
		all := []encoding{p.encoding}
		if p.odd != nil && len(p.odd.encodings) > 0 {
			all = p.odd.encodings
		}
		manyCharsets := p.odd != nil && len(p.odd.charsets) > 1 && p.isText()
		manyCodings := len(all) > 1 || p.encoding != encIdentity && p.oddCoding()
		if !manyCharsets && !manyCodings {
			return nil // before the content is read: it may be large
		}
		main, err := p.Bytes()
		if err != nil {
			return nil // Bytes tells
		}
		var out [][]byte
		add := func(b []byte) {
			if bytes.Equal(b, main) {
				return
			}
			for _, have := range out {
				if bytes.Equal(have, b) {
					return
				}
			}
			out = append(out, b)
		}
		if manyCharsets {
			for _, cs := range p.odd.charsets {
				text, _ := decodeCharset(main, cs)
				add([]byte(text))
			}
		}
		if !manyCodings {
			return out
		}
		raw := p.raw()
		for _, e := range all {
			if e != p.encoding {
				add(decodeAs(e, raw))
			}
			otherCodings(e, raw, add)
		}
		return out
	})
}

// otherCodings adds the other ways to decode raw in an encoding.
func otherCodings(e encoding, raw []byte, add func([]byte)) {
	switch e {
	case encBase64:
		d := b64Decoder{}
		d.look(raw)
		if d.after {
			add(decodeBase64(raw, b64Stop))
			add(decodeBase64(raw, b64Skip))
		}
		if d.url {
			add(decodeBase64(raw, b64URL))
		}
	case encQuoted:
		if lookQuoted(raw) {
			d := qpDecoder{drop: true}
			add(d.decode(make([]byte, 0, len(raw)), raw, true))
		}
	}
}

// oddCoding reports whether the encoded body can be decoded in several ways.
func (p *Part) oddCoding() bool {
	b, q := p.remarks()
	return q || b.after || b.junk
}

// remarks looks through the encoded body without decoding it.
func (p *Part) remarks() (b b64Decoder, quoted bool) {
	switch {
	case p.encoding != encBase64 && p.encoding != encQuoted:
		return b, false
	case p.encoding == encBase64 && p.looked != nil:
		return *p.looked, false
	}
	w := newWindow(p.src, p.body, p.end, false)
	for pos := p.body; pos < w.end; {
		data := w.from(pos)
		if len(data) == 0 {
			break
		}
		if p.encoding == encBase64 {
			b.look(data)
			pos += int64(len(data))
			continue
		}
		n := bytes.LastIndexByte(data, '\n') + 1
		if n == 0 || pos+int64(len(data)) >= w.end {
			n = len(data)
		}
		quoted = quoted || lookQuoted(data[:n])
		pos += int64(n)
	}
	return b, quoted
}
