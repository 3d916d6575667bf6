package mail

import (
	"slices"
	"strings"
	"testing"
)

// top is the header of a well-formed multipart message.
const top = "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=foo\r\n\r\n"

// file is a part that holds "secret", and the end.
const (
	file   = "Content-Type: application/octet-stream; name=att\r\nContent-Transfer-Encoding: base64\r\n\r\nc2VjcmV0\r\n"
	fooEnd = "--foo--\r\n"
	text1  = "--foo\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
)

// withHeader is a message whose only part has the fields.
func withHeader(fields string) string {
	return "From: a@b.example\r\nMIME-Version: 1.0\r\n" + fields + "\r\nc2VjcmV0\r\n"
}

// findingTests hold for each kind a message that has it. Where the content is
// hidden, some reading must show it.
var findingTests = []struct {
	kind   FindingKind
	hides  bool // "secret" must be found
	limits Limits
	msg    string
}{
	{DuplicateContentType, true, Limits{}, "From: a@b\r\nContent-Type: text/plain\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=foo\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{DuplicateContentType, true, Limits{}, "From: a@b\r\nContent-Type: message/rfc822\r\nContent-Type: text/plain\r\n\r\n" + file},
	{DuplicateContentType, true, Limits{}, "From: a@b\r\nContent-Type: text/plain\r\nContent-Type: message/rfc822\r\n\r\n" + file},
	{DuplicateEncoding, true, Limits{}, withHeader("Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n")},
	{DuplicateDisposition, false, Limits{}, withHeader("Content-Disposition: inline\r\nContent-Disposition: attachment; filename=a.exe\r\n")},
	{DuplicateFrom, false, Limits{}, "From: a@b\r\nFrom: c@d\r\n\r\nx"},
	{DuplicateSender, false, Limits{}, "From: a@b\r\nSender: c@d\r\nSender: c@e\r\n\r\nx"},
	{DuplicateSubject, false, Limits{}, "From: a@b\r\nSubject: x\r\nsubject : y\r\n\r\nx"},
	{DuplicateField, false, Limits{}, "From: a@b\r\nDate: x\r\nDate: y\r\n\r\nx"},
	{DuplicateParameter, false, Limits{}, withHeader("Content-Type: text/plain; charset=utf-8; charset=utf-7\r\n")},
	{DuplicateParameter, false, Limits{}, withHeader("Content-Disposition: attachment; filename=a.txt; filename=a.exe\r\n")},
	{OddParameter, false, Limits{}, withHeader("Content-Disposition: attachment; filename=my file.exe\r\n")},
	{OddContentType, false, Limits{}, withHeader("Content-Type: text/plain, text/html\r\n")},
	{OddContentType, false, Limits{}, withHeader("Content-Type: html\r\n")},
	{ContinuationClash, false, Limits{}, withHeader("Content-Disposition: attachment; filename*0=a.exe; filename*0=b; filename*1=.txt\r\n")},
	{ContinuationClash, false, Limits{}, withHeader("Content-Disposition: attachment; filename*=utf-8''a.exe; filename=a.txt\r\n")},
	{NameMismatch, false, Limits{}, withHeader("Content-Type: text/plain; name=a.exe\r\nContent-Disposition: attachment; filename=a.txt\r\n")},
	{EncodedWordName, false, Limits{}, withHeader("Content-Disposition: attachment; filename=\"=?utf-8?q?a.exe?=\"\r\n")},
	{NameNUL, false, Limits{}, withHeader("Content-Disposition: attachment; filename=\"a.exe\x00.txt\"\r\n")},

	{UnknownEncoding, true, Limits{}, withHeader("Content-Transfer-Encoding: xxx\r\nContent-Transfer-Encoding: base64\r\n")},
	{EncodingClash, true, Limits{}, withHeader("Content-Transfer-Encoding: base64, quoted-printable\r\n")},
	{EncodingClash, true, Limits{}, withHeader("Content-Transfer-Encoding: (x)base64\r\n")},
	{EncodingClash, true, Limits{}, withHeader("Content-Transfer-Encoding: 'base64-'\r\n")},
	{EncodingClash, true, Limits{}, withHeader("Content-Transfer-Encoding: =?us-ascii?q?base64?=\r\n")},
	{EncodingClash, true, Limits{}, withHeader("Content-Transfer-Encoding: xbase64x\r\n")},
	{EncodedMultipart, true, Limits{}, "From: a@b\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: multipart/mixed; boundary=foo\r\n\r\n=2D-foo\r\n" + file + fooEnd},
	{EncodedMessage, true, Limits{}, "From: a@b\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: message/rfc822\r\n\r\nX=3A y\r\n" + file},
	{BadBase64, true, Limits{}, "From: a@b\r\nContent-Transfer-Encoding: base64\r\n\r\nc2.VjcmV0*\r\n"},
	{Base64AfterEnd, true, Limits{}, "From: a@b\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ==\r\nc2VjcmV0\r\n"},
	{BadQuoted, false, Limits{}, "From: a@b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=zz\r\n"},
	{OddCharset, false, Limits{}, withHeader("Content-Type: text/html; charset=utf-7\r\n")},
	{UnknownCharset, false, Limits{}, withHeader("Content-Type: text/html; charset=klingon\r\n")},
	{MissingMIME, false, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=foo\r\n\r\n" + text1 + fooEnd},
	{PartialMessage, true, Limits{}, withHeader("Content-Type: message/partial; id=x; number=1; total=2\r\n") + file},
	{ExternalBody, false, Limits{}, withHeader("Content-Type: message/external-body; access-type=URL; URL=\"http://e.example/a.exe\"\r\n")},
	{EmbeddedInText, true, Limits{}, "From: a@b\r\n\r\nsee\r\nbegin 644 a.exe\r\n&<V5C<F5T\r\n`\r\nend\r\n"},
	{BrokenEmbedded, true, Limits{}, "From: a@b\r\n\r\nsee\r\nbegin 644 a.exe\r\n&<V5C<F5T\r\n"},

	{BoundaryMissing, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{BoundaryEmpty, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=\r\n\r\n--\r\n" + file + "----\r\n"},
	{BoundaryDuplicate, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=foo; boundary=bar\r\n\r\n--foo\r\n\r\nhello\r\n--bar\r\n" + file + "--bar--\r\n"},
	{BoundaryOdd, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=foo(x)\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{BoundaryOdd, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=\"=?us-ascii?q?foo?=\"\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{BoundaryOdd, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=\"\"foo\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{BoundaryOdd, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=foo bar\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{BoundaryOdd, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=\"fo\\o\"\r\n\r\n--fo\\o\r\n" + file + "--fo\\o--\r\n"},
	{BoundaryOdd, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary*0=f; boundary*1=oo\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{BoundaryOdd, true, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=\"foo\r\n\r\n" + text1 + "--foo\r\n" + file + fooEnd},
	{BoundaryReused, true, Limits{}, top + text1 + "--foo\r\nContent-Type: multipart/mixed; boundary=foo\r\n\r\n--foo\r\n" + file + fooEnd + fooEnd},
	{BoundaryPrefix, true, Limits{}, top + "--foo\r\n\r\nhello\r\n--foox\r\n" + file + fooEnd},
	{BoundaryPadded, true, Limits{}, top + "--foo\r\n\r\nhello\r\n --foo\r\n" + file + fooEnd},
	{BoundaryNotFound, true, Limits{}, top + "--bar\r\n" + file + "--bar--\r\n"},
	{BoundaryUnclosed, true, Limits{}, top + text1 + "--foo\r\n" + file},
	{BoundaryAfterEnd, true, Limits{}, top + text1 + fooEnd + "--foo\r\n" + file + fooEnd},
	{TextAfterEnd, false, Limits{}, top + text1 + fooEnd + "more\r\n"},
	{PartInPreamble, true, Limits{}, top + file + text1 + fooEnd},
	{PartInPreamble, true, Limits{}, top + "begin 644 a.exe\r\n&<V5C<F5T\r\n`\r\nend\r\n" + text1 + fooEnd},
	{PartInEpilogue, true, Limits{}, top + text1 + fooEnd + file},

	{FieldNoColon, true, Limits{}, top + "--foo\r\nX: y\r\ngarbage\r\n" + file + fooEnd},
	{FieldNoColon, true, Limits{}, top + "--foo\r\nContent-Transfer-Encoding: base64\r\n==\r\nc2VjcmV0\r\n" + fooEnd},
	{FieldSpaceColon, true, Limits{}, withHeader("Content-Transfer-Encoding : base64\r\n")},
	{FieldBadName, false, Limits{}, "From: a@b\r\nBad Name: x\r\n\r\nx"},
	{FieldFoldedName, true, Limits{}, withHeader("Content-Transfer-Encoding\r\n :base64\r\n")},
	{FieldFirstSpace, true, Limits{}, top + "--foo\r\n Content-Transfer-Encoding: base64\r\nX: y\r\n\r\nc2VjcmV0\r\n" + fooEnd},
	{FieldBlankFold, true, Limits{}, withHeader("X: y\r\n \r\nContent-Transfer-Encoding: base64\r\n")},
	{FieldBlankFold, true, Limits{}, "From: a@b\r\nContent-Transfer-Encoding: base64\r\n \r\nc2VjcmV0\r\n\r\n*"},
	{MissingBlankLine, false, Limits{}, top + "--foo\r\nContent-Type: text/plain\r\n" + fooEnd},
	{MissingHeader, true, Limits{}, top + "--foo\r\ntext\r\n" + file + fooEnd},
	{MissingFrom, false, Limits{}, "X: y\r\n\r\nx"},
	{MboxLine, false, Limits{}, "From a@b Mon Jan  1 00:00:00 2026\r\nFrom: a@b\r\n\r\nx"},
	{BareCR, true, Limits{}, top + "--foo\r\nX: y\rContent-Transfer-Encoding: base64\r\n\r\nc2VjcmV0\r\n" + fooEnd},
	{BareCR, true, Limits{}, top + "--foo\r\n\r\nhello\r--foo\rContent-Transfer-Encoding: base64\r\rc2VjcmV0\r\n" + fooEnd},
	{BareLF, false, Limits{}, "From: a@b\r\n\r\nx\ny\r\n"},
	{NULByte, false, Limits{}, "From: a@b\r\n\r\nx\x00\r\n"},
	{LongLine, false, Limits{}, "From: a@b\r\n\r\n" + strings.Repeat("x", 1000) + "\r\n"},

	{LimitDepth, false, Limits{Depth: 1}, top + "--foo\r\nContent-Type: multipart/mixed; boundary=bar\r\n\r\n--bar\r\n\r\nx\r\n"},
	{LimitParts, false, Limits{Parts: 2}, top + text1 + text1 + fooEnd},
	{LimitHeader, false, Limits{HeaderBytes: 20}, "From: a@b\r\nSubject: " + strings.Repeat("x", 40) + "\r\nX: y\r\n\r\nx"},
	{LimitHeader, false, Limits{HeaderBytes: 20}, "From: a@b\r\n" + strings.Repeat(" x\r\n", 40) + "\r\nx"},
	{LimitFields, false, Limits{Fields: 2}, "From: a@b\r\nX: y\r\nX: y\r\n\r\nx"},
	{LimitFields, false, Limits{Fields: 2}, "From: a@b\r\nContent-Type: text/plain; a=\"\\b\"; c=d; e=f\r\n\r\nx"},
	{LimitReadings, false, Limits{}, "From: a@b\r\nContent-Type: multipart/mixed; boundary=a b; boundary=c d; boundary=e f; boundary=g h; boundary=i j; boundary=k l; boundary=m n\r\n\r\n" + strings.Repeat("x\r\n", 60_000)},
	{LimitTime, false, Limits{}, ""},    // see TestLimitTime
	{LimitDecoded, false, Limits{}, ""}, // see TestUnpackLimits
	{UnpackFailed, false, Limits{}, ""}, // see TestUnpackError
}

// shows reports whether a client sees the words in some part or reading.
func shows(m *Message, words string) bool {
	for _, p := range m.Parts() {
		if !p.IsLeaf() {
			continue
		}
		b, err := p.Bytes()
		if err == nil && strings.Contains(string(b), words) {
			return true
		}
		for _, r := range p.Readings() {
			if strings.Contains(string(r), words) {
				return true
			}
		}
	}
	return false
}

// kinds returns the kinds of findings of a message.
func kinds(m *Message) []FindingKind {
	var out []FindingKind
	for _, f := range m.Findings() {
		out = append(out, f.Kind)
	}
	return out
}

func TestFindings(t *testing.T) {
	tested := map[FindingKind]bool{}
	for _, tt := range findingTests {
		tested[tt.kind] = true
		if tt.msg == "" {
			continue
		}
		for _, m := range []*Message{
			ParseBytes([]byte(tt.msg), Options{Limits: tt.limits}),
			Parse(strings.NewReader(tt.msg), int64(len(tt.msg)), Options{Limits: tt.limits}),
		} {
			if got := kinds(m); !slices.Contains(got, tt.kind) {
				t.Errorf("%s is not found but %v in\n%q", tt.kind, got, clip([]byte(tt.msg)))
			}
			if tt.hides && !shows(m, "secret") {
				t.Errorf("%s: no reading shows what is hidden in\n%q", tt.kind, tt.msg)
			}
		}
	}
	for _, d := range Findings {
		if !tested[d.Kind] {
			t.Errorf("%s has no test", d.Kind)
		}
		if d.Doc == "" || d.DocFR == "" || d.Class == "" || d.Kind.Class() != d.Class {
			t.Errorf("%s is not described", d.Kind)
		}
	}
}

// TestNoFindings reads messages that follow the rules.
func TestNoFindings(t *testing.T) {
	for _, msg := range []string{
		string(plainMail(2000)),
		string(attachmentMail(5000)),
		top + text1 + "--foo\r\nContent-Type: message/rfc822\r\n\r\nFrom: x@y\r\nSubject: in\r\n\r\ninner\r\n" + fooEnd,
		top + "This is a multi-part message in MIME format.\r\n" + text1 + "--foo\t\r\nContent-Type: TEXT/HTML; CHARSET=\"UTF-8\";\r\n\r\n<b>\r\n" + fooEnd,
		"From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"a/b:c=d e\"\r\n\r\n--a/b:c=d e\r\n\r\nx\r\n--a/b:c=d e--\r\n",
		"From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename*0=\"a very \"; filename*1=\"long.pdf\"\r\n\r\nx",
		"From: a@b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/related; boundary=x-1\r\n\r\n--x-1\r\n\r\na\r\n--x-1--\r\n\r\n--x--\r\n",
	} {
		if got := ParseBytes([]byte(msg), Options{}).Findings(); len(got) > 0 {
			t.Errorf("%v in\n%q", got, msg)
		}
	}
}

// TestFindingsInOrder wants the same findings each time, in order of the parts.
func TestFindingsInOrder(t *testing.T) {
	msg := []byte(top + "--foo\r\nX : y\r\ngarbage\r\nContent-Transfer-Encoding: base64\r\n\r\nc2.V\r\n--foo\r\n" + file + fooEnd + "--foo\r\nContent-Type: text/html; charset=utf-7\r\n\r\nx\r\n")
	first := ParseBytes(msg, Options{}).Findings()
	if len(first) < 5 {
		t.Fatalf("only %v", first)
	}
	for range 20 {
		if again := ParseBytes(msg, Options{}).Findings(); !slices.Equal(first, again) {
			t.Fatalf("%v, then %v", first, again)
		}
	}
}

// TestFindingsBounded wants no more than a few findings of one kind.
func TestFindingsBounded(t *testing.T) {
	m := ParseBytes([]byte("From: a@b\r\n"+strings.Repeat("garbage\r\n", 1000)+"\r\nx"), Options{})
	if n := len(m.Findings()); n != maxOfKind {
		t.Errorf("%d findings, want %d", n, maxOfKind)
	}
}
