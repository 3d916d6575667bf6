package gateway

import (
	"strings"

	"postern/policy"
)

// frenchWords are the words of a notice that stand in fates, and the whys that
// Postern gives itself; %s is what stays as it is.
var frenchWords = []struct{ en, fr string }{
	{"sent", "remis"}, {"queued", "mis en file d'attente"}, {"held", "retenu en quarantaine"}, {"rejected", "refusé"},
	{"deferred", "différé"}, {"discarded", "supprimé"}, {"bounced", "renvoyé à l'expéditeur"},
	{"no rule holds it back", "aucune règle ne le retient"},
	{"rule %s takes everything", "la règle %s prend tout"},
	{"rule %s cannot be decided: %s", "la règle %s ne peut être tranchée : %s"},
	{"filter %s broke, and no rule settled this recipient before", "le filtre %s est en panne, et aucune règle n'avait réglé ce destinataire"},
	{"a rewrite failed: %s", "une modification a échoué : %s"},
	{"the received message could not be read back: %s", "le message reçu n'a pas pu être relu : %s"},
	{"the author %s is not of this site", "l'auteur %s n'est pas de ce site"},
	{"the message has no From field", "le message n'a pas de champ From"},
}

// inFrench translates what Postern says itself; all else stays.
func inFrench(s string) string {
	for _, w := range frenchWords {
		if said, ok := fill(s, w.en, w.fr); ok {
			return said
		}
	}
	return s
}

// fill writes what stands for each %s of the text en into fr.
func fill(s, en, fr string) (string, bool) {
	before, after, variable := strings.Cut(en, "%s")
	rest, ok := strings.CutPrefix(s, before)
	if !variable {
		return fr, ok && rest == ""
	}
	if !ok {
		return "", false
	}
	next, _, _ := strings.Cut(after, "%s")
	end := len(rest)
	if next != "" {
		if end = strings.Index(rest, next); end < 0 {
			return "", false
		}
	}
	head, tail, _ := strings.Cut(fr, "%s")
	left, ok := fill(rest[end:], after, tail)
	return head + rest[:end] + left, ok
}

// sentence is what the rule does, in the language of the site; empty for what is
// no rule.
func sentence(p *policy.Policy, rule string) string {
	for _, s := range p.Sentences(p.Site.Language) {
		if s.Rule == rule {
			return s.Text
		}
	}
	return ""
}
