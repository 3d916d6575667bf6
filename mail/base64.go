package mail

// b64Value has the value of each base64 digit; 64 for white space, 65 for
// padding, 66 for the digits of base64url, 0xff for what does not belong.
var b64Value = func() (t [256]uint8) {
	for i := range t {
		t[i] = 0xff
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(digits) {
		t[digits[i]] = uint8(i)
	}
	t[' '], t['\t'], t['\r'], t['\n'] = 64, 64, 64, 64
	t['='] = 65
	t['-'], t['_'] = 66, 66
	return t
}()

// b64Odd has 1 for each byte that is neither digit nor white space.
var b64Odd = func() (t [256]uint8) {
	for i, v := range b64Value {
		if v > 64 {
			t[i] = 1
		}
	}
	return t
}()

// A b64Mode is one way in which clients read base64 that is not clean. The zero
// mode skips what does not belong and goes on after padding with a new group.
type b64Mode uint8

const (
	b64Resume b64Mode = iota // padding ends a group; the next begins after it
	b64Stop                  // padding ends the data
	b64Skip                  // padding is skipped like any other stray byte
	b64URL                   // as b64Resume, with "-" and "_" as digits
)

// A b64Decoder decodes base64 as it comes (RFC 2045 section 6.8).
type b64Decoder struct {
	mode  b64Mode
	acc   uint32
	n     int  // digits in acc
	ended bool // b64Stop: the rest is ignored

	junk   bool // stray bytes were met
	url    bool // "-" or "_" among them
	padded bool // padding was met
	after  bool // digits came after padding
}

// decode appends to dst what src decodes to.
func (d *b64Decoder) decode(dst, src []byte) []byte {
	if d.ended {
		d.after = d.after || holdsDigit(src)
		return dst
	}
	for i := 0; i < len(src); {
		if d.n == 0 {
			for i+4 <= len(src) {
				a, b, c, e := b64Value[src[i]], b64Value[src[i+1]], b64Value[src[i+2]], b64Value[src[i+3]]
				if (a|b|c|e)&0xC0 != 0 {
					break
				}
				dst = append(dst, a<<2|b>>4, b<<4|c>>2, c<<6|e)
				i += 4
				d.after = d.after || d.padded
			}
			if i == len(src) {
				return dst
			}
		}
		dst = d.digit(dst, src[i])
		i++
		if d.ended {
			d.after = d.after || holdsDigit(src[i:])
			return dst
		}
	}
	return dst
}

// digit takes one byte.
func (d *b64Decoder) digit(dst []byte, c byte) []byte {
	v := b64Value[c]
	switch {
	case v < 64:
	case v == 64:
		return dst
	case v == 65:
		d.padded = true
		if d.mode == b64Skip {
			return dst
		}
		dst = d.flush(dst)
		d.ended = d.mode == b64Stop
		return dst
	default:
		d.junk = true
		d.url = d.url || v == 66
		if d.mode != b64URL || v != 66 {
			return dst
		}
		if v = 62; c == '_' {
			v = 63
		}
	}
	d.after = d.after || d.padded
	d.acc = d.acc<<6 | uint32(v)
	if d.n++; d.n == 4 {
		dst = append(dst, byte(d.acc>>16), byte(d.acc>>8), byte(d.acc))
		d.acc, d.n = 0, 0
	}
	return dst
}

// flush appends what an incomplete group holds: padding may be missing.
func (d *b64Decoder) flush(dst []byte) []byte {
	switch d.n {
	case 2:
		dst = append(dst, byte(d.acc>>4))
	case 3:
		dst = append(dst, byte(d.acc>>10), byte(d.acc>>2))
	}
	d.acc, d.n = 0, 0
	return dst
}

// holdsDigit reports whether there is a base64 digit in b.
func holdsDigit(b []byte) bool {
	for _, c := range b {
		if b64Value[c] < 64 {
			return true
		}
	}
	return false
}

// look sets the decoder's remarks about src without decoding it.
func (d *b64Decoder) look(src []byte) {
	for len(src) >= 8 && !d.padded {
		s := src[:8]
		if b64Odd[s[0]]|b64Odd[s[1]]|b64Odd[s[2]]|b64Odd[s[3]]|b64Odd[s[4]]|b64Odd[s[5]]|b64Odd[s[6]]|b64Odd[s[7]] != 0 {
			d.lookSlow(s)
		}
		src = src[8:]
	}
	d.lookSlow(src)
}

// lookSlow is look, byte by byte.
func (d *b64Decoder) lookSlow(src []byte) {
	for _, c := range src {
		switch v := b64Value[c]; {
		case v < 64:
			d.after = d.after || d.padded
		case v == 65:
			d.padded = true
		case v > 65:
			d.junk = true
			d.url = d.url || v == 66
		}
	}
}
