package phish

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// alike lists, for a letter or digit, what people take it for: letters of other
// scripts and letters with a bar or a tail (UTS #39 section 4; letters with
// accents, and those of other widths and styles, are found by decomposition).
var alike = map[rune]string{
	'2': "ƧƻϨꙄꝚ", '3': "ƷȜЗзҘӠⳌꝪꞫ", '4': "Ꮞ", '5': "Ƽ", '6': "ϬбᏮⳒ", '8': "Ȣȣ৪", '9': "৭ⳊꝮ",
	'a': "ɑΑαАаᎪꓮ", 'b': "ƀƂƃƄɓßΒВЬьвѢѣҌҍᏏᏴꓐꞴ", 'c': "ƈȼϲϹСсҪҫᏟᴄⲤⲥꓚꮯ", 'd': "ÐĐđƉƌɖɗԁᎠᏧꓒꓓ",
	'e': "ɆɇəΕεЕеҽҿᎬꓰꬲ", 'f': "ƑƒϜքᵮꓝꞘꞙꬵ", 'g': "ƍǤǥɠɡԌցᏀᏳᶃꓖ", 'h': "ĦħɦΗНнћҢһӇӉհᎻᏂᏲⱧⲎꓧꚕ",
	'i': "ıɨɩɪιіӏᎥᵻᵼꙇꭵ", 'j': "ɈɉͿϳЈјᎫꓙꞲ", 'k': "ƙΚκКкҚҞᏦⱩⲔꓗꝀ", 'l': "ŁłƖƗƚǀɫɭΙІӀוןا۱ᏞⲒⳐꓡꓲ",
	'm': "ɱΜϺМмӍᎷᵯⲘꓟ", 'n': "ƝƞɳΝηոռпᵰⲚꓠ", 'o': "ϭØøƟǾɵΘΟθοσОоѲѳӨөՕօסهە۵०๐໐ဝ၀ჿᎾᏫᴏᴑⲞⲟꓳꝊꝋꬽꭴ",
	'p': "þƿϸƥΡρϱРрᏢᵽⲢⲣꓑ", 'q': "ʠԛգզ", 'r': "ƦɍɼɽгᎡᏒᴦᵲⲅꓣꭇꭈꮁ", 's': "ƽʂЅѕՏᏕᏚᵴꓢꜱꮪ", 't': "ŦŧƭƮȾΤτТтҬᎢᵵⲦꓔ",
	'u': "ɄʋυՍսцᏌᴜᵾꓴꞟꭎꭒꮜ", 'v': "νѴѵט۷Ꮩᴠꓦꮩ", 'w': "ɯωѡѽԜԝաшᎳᏔᴡꓪꝡꮃ", 'x': "×ΧχХхҲⲬꓫꞳ",
	'y': "ƴɎɏɣʏΥγУуҮүҰұყᎩᎽᶌỿⲨꓬꭚ", 'z': "ƵƶȤȥʐΖᏃᴢᵶꓜꮓ", '.': "。․·٠", '@': "＠﹫", '-': "‐‑‒–—−",
}

// latin is alike the other way round.
var latin = func() map[rune]rune {
	m := map[rune]rune{}
	for to, from := range alike {
		for _, r := range from {
			m[r] = to
		}
	}
	return m
}()

// fold returns what people read: without accents and invisible characters, small,
// and each letter as the Latin one that it looks like.
func fold(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	s = strings.Map(func(r rune) rune { // before a decomposition makes other letters of them
		if to, ok := latin[r]; ok {
			return to
		}
		return r
	}, s)
	for _, r := range norm.NFKD.String(s) {
		switch to, ok := latin[r]; {
		case ok:
			b.WriteRune(to)
		case unicode.Is(unicode.Mn, r), invisible(r), turning(r):
		default:
			r = unicode.ToLower(r)
			if to, ok = latin[r]; ok {
				r = to
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plain reports whether fold leaves s as it is.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 || 'A' <= s[i] && s[i] <= 'Z' {
			return false
		}
	}
	return true
}

// blur goes further than fold: it also takes for the same what is easily misread
// in Latin letters, and leaves hyphens out.
var blur = strings.NewReplacer("rn", "m", "vv", "w", "0", "o", "1", "l", "i", "l", "|", "l", "5", "s", "-", "").Replace

// invisible reports whether a character takes no room: nobody needs it in a name.
// The joiners of Persian and Indic words are not among them.
func invisible(r rune) bool {
	switch r {
	case 0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x200B, 0x2060, 0x2061, 0x2062, 0x2063, 0x2064, 0x3164, 0xFEFF, 0xFFA0:
		return true
	}
	return 0xE0000 <= r && r <= 0xE0FFF
}

// turning reports whether a character changes the direction of the text around
// it (Unicode Standard Annex #9).
func turning(r rune) bool {
	return 0x202A <= r && r <= 0x202E || 0x2066 <= r && r <= 0x2069 || r == 0x200E || r == 0x200F
}

// overriding reports whether a character turns letters round.
func overriding(r rune) bool { return r == 0x202D || r == 0x202E }

// joiner reports whether a character joins or parts the letters beside it.
func joiner(r rune) bool { return r == 0x200C || r == 0x200D }

// hidden returns the first character in a name that hides something: an
// invisible one, an override of the direction, a joiner between Latin letters.
func hidden(s string) (rune, bool) {
	before := ' '
	for _, r := range s {
		switch {
		case 0xE0100 <= r && r <= 0xE01EF && unicode.Is(unicode.Han, before), 0xE0020 <= r && r <= 0xE007F && before == '🏴':
			continue // a variant of the character before, as in Japanese names; the flag of a region
		case invisible(r), overriding(r), joiner(r) && before < 0x250:
			return r, true
		}
		before = r
	}
	return 0, false
}

// reversed returns s from its end to its beginning.
func reversed(s string) string {
	rs := []rune(s)
	for i, j := 0, len(rs)-1; i < j; i, j = i+1, j-1 {
		rs[i], rs[j] = rs[j], rs[i]
	}
	return string(rs)
}

// near reports whether one mistake makes b of a: a character more, less or other,
// or two neighbours changed over.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 || a == b {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) < len(b) {
		return a[i:] == b[i+1:]
	}
	return a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}
