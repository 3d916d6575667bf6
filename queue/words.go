package queue

import (
	"fmt"
	"strings"

	"postern/spool"
)

// phrases are what a DSN says to people in one language.
type phrases struct {
	subject string
	intro   string // with the host's name
	lead    string // of what follows
	answer  string // with next hop and reply
	nobody  string // with the reply, when no next hop has answered
	expired string
	until   string // with a time
	advice  string
	secret  string // why only parts of the header section come back
	id      string // with the queue id
}

// english and french are indexed by ReportKind.
var english = [...]phrases{
	ReportFailed: {
		subject: "Your message could not be delivered",
		intro:   "This is the mail system at %s.",
		lead:    "Your message could not be delivered to the following recipients, and it will not be tried again:",
		answer:  "%s said: %s", nobody: "%s", expired: "It was tried for too long.",
		advice: "If you need help, forward this message to your postmaster.",
	},
	ReportDelayed: {
		subject: "Your message is delayed",
		intro:   "This is the mail system at %s.",
		lead:    "Your message has not been delivered yet to the following recipients. It is still being tried: you need not send it again.",
		answer:  "%s said: %s", nobody: "%s", until: "It will be tried until %s.",
	},
	ReportRelayed: {
		subject: "Your message was relayed",
		intro:   "This is the mail system at %s.",
		lead:    "Your message was handed on for the following recipients to a system that does not confirm deliveries. You will hear no more of it unless it fails:",
		answer:  "%s said: %s", nobody: "%s",
	},
}

var french = [...]phrases{
	ReportFailed: {
		subject: "Votre message n'a pas pu être remis",
		intro:   "Ceci est le système de messagerie %s.",
		lead:    "Votre message n'a pas pu être remis aux destinataires suivants, et aucun nouvel essai ne sera fait :",
		answer:  "%s a répondu : %s", nobody: "%s", expired: "Les essais ont duré trop longtemps.",
		advice: "Si vous avez besoin d'aide, transmettez ce message à votre administrateur de messagerie.",
	},
	ReportDelayed: {
		subject: "Votre message est retardé",
		intro:   "Ceci est le système de messagerie %s.",
		lead:    "Votre message n'a pas encore été remis aux destinataires suivants. Les essais continuent : inutile de l'envoyer à nouveau.",
		answer:  "%s a répondu : %s", nobody: "%s", until: "Les essais continuent jusqu'au %s.",
	},
	ReportRelayed: {
		subject: "Votre message a été relayé",
		intro:   "Ceci est le système de messagerie %s.",
		lead:    "Votre message a été transmis, pour les destinataires suivants, à un système qui ne confirme pas les remises. Vous n'aurez plus de nouvelles, sauf en cas d'échec :",
		answer:  "%s a répondu : %s", nobody: "%s",
	},
}

const (
	secretEnglish = "Your message had to travel encrypted: this report, which may not, returns neither its text nor its subject."
	secretFrench  = "Votre message devait circuler chiffré : ce rapport, qui ne l'est peut-être pas, n'en renvoie ni le texte ni l'objet."
	idEnglish     = "Queue id: %s"
	idFrench      = "Identifiant dans la file : %s"
)

// words are those of the report's first language.
func (r *Report) words() phrases {
	if r.Language == "fr" {
		p := french[r.Kind]
		p.secret, p.id = secretFrench, idFrench
		return p
	}
	return r.english()
}

func (r *Report) english() phrases {
	p := english[r.Kind]
	p.secret, p.id = secretEnglish, idEnglish
	return p
}

// text is the part for people.
func (r *Report) text() string {
	var b strings.Builder
	r.write(&b, r.words())
	if r.Language == "fr" {
		b.WriteString("\r\n----------------------------------------------------------------\r\n\r\n")
		r.write(&b, r.english())
	}
	return b.String()
}

func (r *Report) write(b *strings.Builder, p phrases) {
	fmt.Fprintf(b, p.intro+"\r\n\r\n%s\r\n\r\n", r.Hostname, p.lead)
	for i := range r.To {
		to := &r.To[i]
		fmt.Fprintf(b, "<%s>\r\n", to.Path)
		if to.State == spool.Expired {
			fmt.Fprintf(b, "    %s\r\n", p.expired)
		}
		switch reply := visible(to.Reply.String()); {
		case to.Reply.Code == 0:
		case to.Hop != "":
			fmt.Fprintf(b, "    "+p.answer+"\r\n", visible(to.Hop), reply)
		default:
			fmt.Fprintf(b, "    "+p.nobody+"\r\n", reply)
		}
		b.WriteString("\r\n")
	}
	if r.Kind == ReportDelayed && !r.Until.IsZero() {
		fmt.Fprintf(b, p.until+"\r\n\r\n", r.Until.Format("2006-01-02 15:04 -0700"))
	}
	if r.Entry.Demands.Encrypted {
		b.WriteString(p.secret + "\r\n\r\n")
	}
	if p.advice != "" {
		b.WriteString(p.advice + "\r\n")
	}
	fmt.Fprintf(b, p.id+"\r\n", r.Entry.ID)
}

// visible makes of what a stranger said something that can stand in a text.
func visible(s string) string {
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return '?'
		}
		return c
	}, s)
}
