package gateway

import "testing"

func TestInFrench(t *testing.T) {
	for en, fr := range map[string]string{
		"queued":                                     "mis en file d'attente",
		"no rule holds it back":                      "aucune règle ne le retient",
		"no rule holds it back!":                     "no rule holds it back!",
		"rule a takes everything":                    "la règle a prend tout",
		"rule a":                                     "rule a",
		"rule r cannot be decided: virus: gone":      "la règle r ne peut être tranchée : virus: gone",
		"a rewrite failed: x":                        "une modification a échoué : x",
		"the author a@b.example is not of this site": "l'auteur a@b.example n'est pas de ce site",
		"attachment: run.exe":                        "attachment: run.exe",
		"":                                           "",
	} {
		if got := inFrench(en); got != fr {
			t.Errorf("%q: %q", en, got)
		}
	}
}
