package audit

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// Free text goes with any address of its record; what is the other party's, and
// the records of others, stay.
func TestForgetFreeText(t *testing.T) {
	for _, tt := range []struct{ address, kept, erased string }{
		{"alice@partner.example", "bob@example.org", "[from author client helo why reply reason]"},
		{"bob@example.org", "alice@partner.example", "[to why reply reason]"},
	} {
		p := newPlace(t)
		l := p.open(t)
		r := sample(1)
		r.To, r.Why, r.Reply, r.Reason = "bob@example.org", "subject: tellme UNIQSUBJ", "550 5.7.1 blocked u.example", "UNIQNOTE"
		other := sample(2)
		other.From, other.Author, other.Why = "dave@other.example", "dave@other.example", "his own words"
		for _, r := range []Record{r, other} {
			if err := l.Append(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		if done, err := l.Forget(ctx, tt.address, "dpo"); err != nil || done.Records != 1 {
			t.Errorf("Forget %s = %+v, %v", tt.address, done, err)
		}
		found, err := l.List(ctx, Query{ID: r.ID})
		if err != nil || len(found) != 1 || fmt.Sprint(found[0].Erased) != tt.erased {
			t.Errorf("%s: %+v, %v", tt.address, found, err)
		}
		if _, err := l.Verify(ctx); err != nil {
			t.Error(err)
		}
		l.Close()
		var all []byte
		for _, f := range p.files(t) {
			text, _ := os.ReadFile(f)
			all = append(all, text...)
		}
		for _, gone := range []string{tt.address, "UNIQSUBJ", "u.example", "UNIQNOTE"} {
			if bytes.Contains(all, []byte(gone)) {
				t.Errorf("%s: %q is still there", tt.address, gone)
			}
		}
		for _, kept := range []string{tt.kept, "his own words"} {
			if !bytes.Contains(all, []byte(kept)) {
				t.Errorf("%s: %q is gone", tt.address, kept)
			}
		}
	}
}
