package queue

import (
	"fmt"
	"strings"

	"postern/spool"
)

// phrases are what a DSN says to people in one language.
type phrases struct {
	subject [ReportRelayed + 1]string
	lead    [ReportRelayed + 1]string // of the recipients that follow
	intro   string                    // with the host's name
	answer  string                    // with next hop and reply
	own     string                    // with a reply that is our own
	expired string
	until   string // with a time
	advice  string
	secret  string // why only parts of the header section come back
	id      string // with the queue id
}

var english = phrases{
	subject: [...]string{
		ReportFailed:  "Your message could not be delivered",
		ReportDelayed: "Your message is delayed",
		ReportRelayed: "Your message was relayed",
	},
	lead: [...]string{
		ReportFailed:  "Your message could not be delivered to the following recipients, and it will not be tried again:",
		ReportDelayed: "Your message has not been delivered yet to the following recipients. It is still being tried: you need not send it again.",
		ReportRelayed: "Your message was handed on for the following recipients to a system that does not confirm deliveries. You will hear no more of it unless it fails:",
	},
	intro:   "This is the mail system at %s.",
	answer:  "%s said: %s",
	own:     "This mail system itself reports: %s",
	expired: "It was tried for too long.",
	until:   "It will be tried until %s.",
	advice:  "If you need help, forward this message to your postmaster.",
	secret:  "Your message had to travel encrypted: this report, which may not, returns neither its text nor its subject.",
	id:      "Queue id: %s",
}

var french = phrases{
	subject: [...]string{
		ReportFailed:  "Votre message n'a pas pu être remis",
		ReportDelayed: "Votre message est retardé",
		ReportRelayed: "Votre message a été relayé",
	},
	lead: [...]string{
		ReportFailed:  "Votre message n'a pas pu être remis aux destinataires suivants, et aucun nouvel essai ne sera fait :",
		ReportDelayed: "Votre message n'a pas encore été remis aux destinataires suivants. Les essais continuent : inutile de l'envoyer à nouveau.",
		ReportRelayed: "Votre message a été transmis, pour les destinataires suivants, à un système qui ne confirme pas les remises. Vous n'aurez plus de nouvelles, sauf en cas d'échec :",
	},
	intro:   "Ceci est le système de messagerie %s.",
	answer:  "%s a répondu : %s",
	own:     "Ce système de messagerie constate lui-même : %s",
	expired: "Les essais ont duré trop longtemps.",
	until:   "Les essais continuent jusqu'au %s.",
	advice:  "Si vous avez besoin d'aide, transmettez ce message à votre administrateur de messagerie.",
	secret:  "Votre message devait circuler chiffré : ce rapport, qui ne l'est peut-être pas, n'en renvoie ni le texte ni l'objet.",
	id:      "Identifiant dans la file : %s",
}

// words are those of the report's first language.
func (r *Report) words() *phrases {
	if r.Language == "fr" {
		return &french
	}
	return &english
}

// text is the part for people.
func (r *Report) text() string {
	var b strings.Builder
	r.write(&b, r.words())
	if r.Language == "fr" {
		b.WriteString("\r\n----------------------------------------------------------------\r\n\r\n")
		r.write(&b, &english)
	}
	return b.String()
}

func (r *Report) write(b *strings.Builder, p *phrases) {
	fmt.Fprintf(b, p.intro+"\r\n\r\n%s\r\n\r\n", r.Hostname, p.lead[r.Kind])
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
			fmt.Fprintf(b, "    "+p.own+"\r\n", strings.TrimSuffix(reply, "; try again later"))
		}
		b.WriteString("\r\n")
	}
	if r.Kind == ReportDelayed && !r.Until.IsZero() {
		fmt.Fprintf(b, p.until+"\r\n\r\n", r.Until.Format("2006-01-02 15:04 -0700"))
	}
	if r.Entry.Demands.Encrypted {
		b.WriteString(p.secret + "\r\n\r\n")
	}
	if r.Kind == ReportFailed {
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
