package feedback

import (
	"encoding/json"

	"postern/filters"
	"postern/filters/dmarc"
	"postern/filters/dmarc/report"
	"postern/mail"
	"postern/policy"
)

// Note counts a message that was not put off. p is the policy that has decided.
func (r *Reporter) Note(tx *mail.Transaction, rs filters.Results, ds []policy.Decision, p *policy.Policy) {
	v, _ := rs.Of("dmarc")
	found, ok := v.Details.(*dmarc.Finding)
	if !ok || found.Carrier {
		return
	}
	set := r.o.Settings()
	if !set.On || !set.Own && (dmarc.Within(found.Policy.Domain, set.Domains) || dmarc.Within(found.Record.HeaderFrom, set.Domains)) {
		return
	}
	done, rule := mildest(ds)
	if done == "" {
		return
	}
	rec := found.Record
	rec.Disposition, rec.Reasons = disposition(found, done, p.Asks(rule, "dmarc"), tx, rs)
	r.count(found, rec)
}

// count adds one message to a record.
func (r *Reporter) count(found *dmarc.Finding, rec report.Record) {
	row, err := json.Marshal(rec)
	known, errKnown := json.Marshal(about{found.Policy, found.RUA, found.Misread})
	k := key{subject{day(r.o.Now()), found.Policy.Domain}, string(row)}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.seen[k]
	if err != nil || errKnown != nil || n == 0 && len(r.seen) >= maxMemory {
		r.lost++
		return
	}
	r.seen[k] = n + 1
	r.about[k.subject] = known
	if n == 0 && len(r.seen) == maxMemory/2 {
		select {
		case r.full <- struct{}{}:
		default: // it has been told
		}
	}
}

// severity orders what can be done with a message.
var severity = map[string]int{"none": 0, "quarantine": 1, "reject": 2}

// disposition says what the DMARC policy made of a message, and why it is not
// what the domain asks for (RFC 9990 sections 3.1.1.9 and 3.1.6). done is what
// was done for the recipient for whom it was mildest; ours says that a rule about
// DMARC did it.
//
// What other rules do to a message is not told (section 8.3): where they stopped
// it, the domain has what it asked for.
func disposition(found *dmarc.Finding, done string, ours bool, tx *mail.Transaction, rs filters.Results) (string, []report.Reason) {
	given, asked := string(found.Given), string(found.Asked)
	if found.Pass {
		if given == "none" {
			return "none", nil
		}
		return "pass", nil
	}
	if severity[done] > severity[asked] && !ours {
		done = asked
	}
	switch {
	case done == given:
		return done, nil
	case done == asked:
		return done, []report.Reason{{Type: "policy_test_mode"}}
	case severity[done] < severity[asked] && len(rs.Find("ARC_TRUSTED")) > 0:
		why := report.Reason{Type: "trusted_forwarder", Comment: "arc=pass"}
		if tx.Message.Header().Get("List-Id") != "" {
			why.Type = "mailing_list"
		}
		return done, []report.Reason{why}
	}
	return done, []report.Reason{{Type: "local_policy"}}
}

// mildest is what was done for the recipient for whom it was mildest, and by
// which rule; empty if the message was put off for all.
func mildest(ds []policy.Decision) (done, rule string) {
	words := map[policy.Disposition]string{policy.Relay: "none", policy.Quarantine: "quarantine", policy.Reject: "reject", policy.Discard: "reject"}
	for i := range ds {
		if word, ok := words[ds[i].Disposition]; ok && (done == "" || severity[word] < severity[done]) {
			done, rule = word, ds[i].Rule
		}
	}
	return done, rule
}
