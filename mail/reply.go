package mail

import (
	"strconv"

	"github.com/emersion/go-smtp"
)

// A Reply is what an SMTP server says (RFC 5321 section 4.2): the code, the
// enhanced status code (RFC 3463) and the text. The zero Reply says nothing.
// It never holds a cause: that goes to the log.
type Reply struct {
	Code     int
	Enhanced smtp.EnhancedCode // zero: none
	Text     string            // lines separated by "\n"
}

// Replies that several packages give.
var (
	ReplyOK         = Reply{250, smtp.EnhancedCode{2, 0, 0}, "OK"}
	ReplyTryAgain   = Reply{451, smtp.EnhancedCode{4, 3, 0}, "cannot process this message now; try again later"}
	ReplyNoSpace    = Reply{452, smtp.EnhancedCode{4, 3, 1}, "insufficient system storage; try again later"}
	ReplyShutdown   = Reply{421, smtp.EnhancedCode{4, 3, 2}, "service is shutting down; try again later"}
	ReplyNoRelaying = Reply{550, smtp.EnhancedCode{5, 7, 1}, "relaying denied: not a domain of this site"}
)

// OK reports whether the code is 2xx.
func (r Reply) OK() bool { return r.Code >= 200 && r.Code < 300 }

// Temporary reports whether the code is 4xx.
func (r Reply) Temporary() bool { return r.Code >= 400 && r.Code < 500 }

// Permanent reports whether the code is 5xx.
func (r Reply) Permanent() bool { return r.Code >= 500 && r.Code < 600 }

// String returns the reply on one line: "550 5.7.1 text".
func (r Reply) String() string {
	b := make([]byte, 0, 16+len(r.Text))
	b = strconv.AppendInt(b, int64(r.Code), 10)
	if r.Enhanced != (smtp.EnhancedCode{}) && r.Enhanced != smtp.NoEnhancedCode {
		b = appendStatus(append(b, ' '), r.Enhanced)
	}
	b = append(b, ' ')
	text := len(b)
	b = append(b, r.Text...)
	for i := text; i < len(b); i++ {
		if b[i] == '\n' {
			b[i] = ' '
		}
	}
	return string(b)
}

// Status returns the enhanced status code as text; where there is none, the
// class alone: "5.0.0".
func (r Reply) Status() string {
	e := r.Enhanced
	if e == (smtp.EnhancedCode{}) || e == smtp.NoEnhancedCode {
		e = smtp.EnhancedCode{r.Code / 100, 0, 0}
	}
	var b [16]byte
	return string(appendStatus(b[:0], e))
}

func appendStatus(b []byte, e smtp.EnhancedCode) []byte {
	b = append(strconv.AppendInt(b, int64(e[0]), 10), '.')
	b = append(strconv.AppendInt(b, int64(e[1]), 10), '.')
	return strconv.AppendInt(b, int64(e[2]), 10)
}
