package mail

import "bytes"

// A qpDecoder decodes quoted-printable as it comes (RFC 2045 section 6.7), as
// mail clients do: lower-case digits, blanks after a soft break, LF alone.
type qpDecoder struct {
	drop bool   // drop a "=" that begins no escape; else it stays
	rest []byte // an escape or blanks whose end is not here yet
	bad  bool   // a bad escape was met
}

// decode appends to dst what src decodes to; last says that nothing follows.
func (d *qpDecoder) decode(dst, src []byte, last bool) []byte {
	if len(d.rest) > 0 {
		src = append(d.rest, src...)
		d.rest = nil
	}
	for len(src) > 0 {
		n := bytes.IndexByte(src, '\n')
		if n < 0 {
			if !last && len(src) < windowSize {
				d.rest = bytes.Clone(src)
				return dst
			}
			if !last { // an endless line: keep back what may be cut
				cut := whole(src)
				dst = d.line(dst, src[:cut], nil)
				d.rest = bytes.Clone(src[cut:])
				if len(d.rest) > windowSize/2 { // nothing but blanks
					dst, d.rest = append(dst, d.rest...), nil
				}
				return dst
			}
			return d.line(dst, src, nil)
		}
		line, end := src[:n], src[n:n+1]
		if n > 0 && line[n-1] == '\r' {
			line, end = src[:n-1], src[n-1:n+1]
		}
		dst = d.line(dst, line, end)
		src = src[n+1:]
	}
	return dst
}

// whole returns how much of an endless line means the same whatever follows: it
// ends neither with blanks, which may be the end of the line, nor within an
// escape.
func whole(src []byte) int {
	cut := len(src)
	for {
		cut = len(bytes.TrimRight(src[:cut], " \t"))
		from := max(cut-2, 0)
		i := bytes.LastIndexByte(src[from:cut], '=')
		if i < 0 || cut == 0 {
			return cut
		}
		cut = from + i
	}
}

// line decodes one line. Blanks at its end were added on the way (rule 3).
func (d *qpDecoder) line(dst, line, end []byte) []byte {
	line = bytes.TrimRight(line, " \t")
	if n := len(line); n > 0 && line[n-1] == '=' {
		line, end = line[:n-1], nil
	}
	for {
		i := bytes.IndexByte(line, '=')
		if i < 0 {
			break
		}
		dst = append(dst, line[:i]...)
		line = line[i:]
		if len(line) > 2 {
			if h, l := hexValue(line[1]), hexValue(line[2]); h >= 0 && l >= 0 {
				dst = append(dst, byte(h<<4|l))
				line = line[3:]
				continue
			}
		}
		d.bad = true
		if !d.drop {
			dst = append(dst, '=')
		}
		line = line[1:]
	}
	dst = append(dst, line...)
	return append(dst, end...)
}

// lookQuoted reports whether there is a bad escape in src.
func lookQuoted(src []byte) bool {
	for {
		i := bytes.IndexByte(src, '=')
		if i < 0 {
			return false
		}
		src = src[i+1:]
		if len(src) > 1 && hexValue(src[0]) >= 0 && hexValue(src[1]) >= 0 {
			src = src[2:]
			continue
		}
		t := bytes.TrimLeft(src[:min(len(src), maxLine)], " \t\r")
		if len(t) > 0 && t[0] != '\n' {
			return true
		}
	}
}
