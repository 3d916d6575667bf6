package strip

import (
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"slices"
	"strings"

	"postern/filters"
)

// words are the words of a notice in one language.
type words struct {
	file, sentence, name, reason, rule, id, unnamed string
}

var languages = map[string]words{
	"en": {
		file:     "attachment-removed.txt",
		sentence: "An attachment of this message was removed for safety. If you need it, give your administrator the id below.",
		name:     "Attachment", reason: "Reason", rule: "Rule", id: "Id", unnamed: "without a name",
	},
	"fr": {
		file:     "piece-jointe-retiree.txt",
		sentence: "Une pièce jointe de ce message a été retirée par sécurité. Si vous en avez besoin, donnez l’identifiant ci-dessous à votre administrateur.",
		name:     "Pièce jointe", reason: "Raison", rule: "Règle", id: "Identifiant", unnamed: "sans nom",
	},
}

// notice returns the text part that stands in the place of a victim.
func (c *Checker) notice(with *Action, in filters.RewriteInput, v *victim) []byte {
	w, ok := languages[c.language]
	if !ok {
		w = languages["en"]
	}
	sentence := with.Note
	if sentence == shippedNote {
		sentence = w.sentence
	}
	id := in.Kept
	if id == "" {
		id = in.Tx.ID
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\r\n\r\n", filters.Clean(sentence, 2000))
	for _, line := range []struct {
		word   string
		values []string
	}{{w.name, names(v, w.unnamed)}, {w.reason, v.why}, {w.rule, []string{in.Rule}}, {w.id, []string{id}}} {
		for _, value := range line.values {
			fmt.Fprintf(&text, "%s: %s\r\n", line.word, filters.Clean(value, 300))
		}
	}
	encoding, body := encode(text.String())
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8; name=%q\r\n", w.file)
	fmt.Fprintf(&b, "Content-Disposition: inline; filename=%q\r\n", w.file)
	fmt.Fprintf(&b, "Content-Transfer-Encoding: %s\r\n\r\n%s\r\n", encoding, body)
	return []byte(b.String())
}

// encode writes text in quoted-printable, which people can read in the source;
// or in base64 where a folded line would begin with two hyphens: a name from
// outside must not become a delimiter.
func encode(text string) (encoding, body string) {
	var b strings.Builder
	q := quotedprintable.NewWriter(&b)
	q.Write([]byte(text)) // a Builder takes everything
	q.Close()
	if body = b.String(); !strings.Contains("\n"+body, "\n--") {
		return "quoted-printable", body
	}
	b.Reset()
	for packed := base64.StdEncoding.EncodeToString([]byte(text)); packed != ""; {
		n := min(len(packed), 76)
		b.WriteString(packed[:n] + "\r\n")
		packed = packed[n:]
	}
	return "base64", b.String()
}

// names returns the names of what is taken out. What is no more than another
// way to write the first is left out.
func names(v *victim, unnamed string) []string {
	all := v.part.Names()
	if v.part.Parent() == nil && v.part.Header().Has("Subject") && len(all) == 0 {
		return nil
	}
	if len(all) == 0 {
		return []string{unnamed}
	}
	return slices.Clone(all[:1])
}
