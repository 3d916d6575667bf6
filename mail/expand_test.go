package mail

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// listUnpacker opens "archives" that are lists of name=content words; a content
// of the form [..] is an archive again, !word a broken one.
func listUnpacker(t testing.TB) Unpacker {
	return func(p *Part) ([]Member, error) {
		b, err := p.Bytes()
		if err != nil || !bytes.HasPrefix(b, []byte("LIST ")) {
			return nil, nil
		}
		var out []Member
		for _, w := range strings.Fields(string(b))[1:] {
			name, content, _ := strings.Cut(w, "=")
			if name == "broken" {
				return out, errors.New("bad list")
			}
			content = strings.ReplaceAll(content, "_", " ")
			size := int64(len(content))
			if n, ok := strings.CutPrefix(content, "#"); ok { // says less than it is
				content, size = n, 1
			}
			if n, err := strconv.Atoi(content); err == nil { // so many bytes
				content, size = strings.Repeat("x", n), int64(n)
			}
			if strings.HasPrefix(name, "u") {
				size = -1
			}
			out = append(out, Member{Name: name, Size: size, Encrypted: name == "locked",
				Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }})
		}
		return out, nil
	}
}

// archive is a message with one archive in it.
func archive(t testing.TB, list string, l Limits) *Message {
	return ParseBytes([]byte(top+text1+"--foo\r\nContent-Type: application/zip\r\n\r\nLIST "+list+"\r\n"+fooEnd), Options{Limits: l, Unpack: []Unpacker{listUnpacker(t)}})
}

func TestUnpack(t *testing.T) {
	m := archive(t, "a.txt=hello inner=LIST_b.txt=deep locked=x unknown=abc", Limits{})
	want := map[PartID]string{"2.1": "hello", "2.2.1": "deep", "2.4": "abc"}
	for id, content := range want {
		p := m.Part(id)
		if p == nil {
			t.Fatalf("no part %s", id)
		}
		b, err := p.Bytes()
		streamed, err2 := io.ReadAll(p.Open())
		if string(b) != content || err != nil || string(streamed) != content || err2 != nil {
			t.Errorf("part %s: %q %v %q %v, want %q", id, b, err, streamed, err2, content)
		}
		if p.InMessage() || p.Entity() != m.Part("2") || !p.IsAttachment() || p.Length() != int64(len(content)) {
			t.Errorf("part %s is not a member of part 2", id)
		}
	}
	if p := m.Part("2.3"); !p.Encrypted() || !slices.Equal(p.Names(), []string{"locked"}) {
		t.Errorf("locked: %v %v", p.Encrypted(), p.Names())
	} else if _, err := p.Bytes(); !errors.Is(err, ErrEncrypted) {
		t.Errorf("locked: %v", err)
	}
	if got := m.Findings(); len(got) > 0 {
		t.Errorf("findings %v", got)
	}
	if !m.Part("2").IsLeaf() {
		t.Error("an archive's own bytes are no content")
	}
}

func TestUnpackError(t *testing.T) {
	m := archive(t, "a.txt=hello broken=", Limits{})
	if got := kinds(m); !slices.Equal(got, []FindingKind{UnpackFailed}) || m.Part("2.1") == nil {
		t.Errorf("findings %v", got)
	}
}

func TestUnpackLimits(t *testing.T) {
	tests := []struct {
		list   string
		limits Limits
		want   FindingKind
		parts  int
	}{
		{"a=5 b=5 c=5", Limits{DecodedBytes: 12}, LimitDecoded, 6},
		{"a=5 u=500 c=5", Limits{DecodedBytes: 12}, LimitDecoded, 6},
		{"a=5 b=5 c=5", Limits{Parts: 5}, LimitParts, 5},
		{"a=LIST_b=LIST", Limits{Depth: 2}, LimitDepth, 4},
	}
	for _, tt := range tests {
		m := archive(t, tt.list, tt.limits)
		if got := kinds(m); !slices.Contains(got, tt.want) {
			t.Errorf("%s: findings %v, want %s", tt.list, got, tt.want)
		}
		if n := len(m.Parts()); n != tt.parts {
			t.Errorf("%s: %d parts, want %d", tt.list, n, tt.parts)
		}
		total := 0
		for _, p := range m.Parts() {
			if p.member != nil {
				b, err := p.Bytes()
				total += len(b)
				if err != nil && !errors.Is(err, ErrLimit) {
					t.Errorf("%s: %v", tt.list, err)
				}
			}
		}
		if l := tt.limits.DecodedBytes; l > 0 && int64(total) > l {
			t.Errorf("%s: %d bytes unpacked, limit %d", tt.list, total, l)
		}
	}
}

// TestMemberLarger reads a member that is larger than the archive says.
func TestMemberLarger(t *testing.T) {
	m := archive(t, "a=#hello", Limits{})
	b, err := m.Part("2.1").Bytes()
	if string(b) != "h" || !errors.Is(err, ErrLimit) {
		t.Errorf("%q, %v", b, err)
	}
}
