package policy

import (
	"strings"
	"time"

	"postern/mail"
)

// A Sentence is one rule in plain words.
type Sentence struct {
	Number int    `json:"number"` // from 1, in the order of the file
	Rule   string `json:"rule"`
	Line   int    `json:"line"`
	Why    string `json:"why,omitempty"`
	Text   string `json:"text"`
}

// A tongue holds the words that join the phrases of conditions and actions.
type tongue struct {
	mail, in, out, any string
	and, or, except    string
	when               string
	watched, from      string
	until, tell        string
	colon              string
}

// tongues are the languages of sentences; the index is that of the phrases.
var tongues = []tongue{
	{
		mail: "Mail", in: "Mail in", out: "Mail out", any: "All mail", and: " and ", or: ", or ", except: ", except ", when: "mail ",
		watched: " (only watched)", from: ", from %s on", until: ", until %s", tell: "; tell %s", colon: ": ",
	},
	{
		mail: "Courrier", in: "Courrier entrant", out: "Courrier sortant", any: "Tout courrier", and: " et ", or: ", ou ", except: ", sauf ", when: "courrier ",
		watched: " (observée seulement)", from: ", à partir du %s", until: ", jusqu'au %s", tell: " ; prévenir %s", colon: " : ",
	},
}

// Sentences returns each rule as a sentence: "en" or "fr".
func (p *Policy) Sentences(lang string) []Sentence {
	l := 0
	if lang == "fr" {
		l = 1
	}
	sentences := make([]Sentence, 0, len(p.rules))
	for i, r := range p.rules {
		sentences = append(sentences, Sentence{Number: i + 1, Rule: r.name, Line: r.line, Why: r.why, Text: p.sentence(r, l)})
	}
	return sentences
}

func (p *Policy) sentence(r *rule, l int) string {
	t := &tongues[l]
	var b strings.Builder
	subject, conds := t.any, r.match
	if len(conds) > 0 {
		subject = t.mail
	}
	if len(conds) > 0 && conds[0].key == "direction" && len(conds[0].cover.words) == 1 {
		subject = t.in
		if conds[0].cover.words[0] == string(mail.Outbound) {
			subject = t.out
		}
		conds = conds[1:]
	}
	b.WriteString(subject)
	if len(conds) > 0 {
		b.WriteString(" " + phrases(conds, l))
	}
	b.WriteString(t.colon + r.say[l])
	for i, table := range r.except {
		sep := t.except
		if i > 0 {
			sep = t.or
		}
		b.WriteString(sep + t.when + phrases(table, l))
	}
	if !r.from.IsZero() {
		b.WriteString(strings.ReplaceAll(t.from, "%s", r.from.Format(time.DateOnly)))
	}
	if !r.until.IsZero() {
		b.WriteString(strings.ReplaceAll(t.until, "%s", r.until.Format(time.DateOnly)))
	}
	if len(r.notify) > 0 {
		b.WriteString(strings.ReplaceAll(t.tell, "%s", listWords(r.notify, t.and)))
	}
	if p.watches(r) {
		b.WriteString(t.watched)
	}
	return b.String() + "."
}

func phrases(conds []*condition, l int) string {
	words := make([]string, len(conds))
	for i, c := range conds {
		words[i] = c.say[l]
	}
	return listWords(words, tongues[l].and)
}
