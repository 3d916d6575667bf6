package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/audit"
	"postern/gateway"
	"postern/quarantine"
	"postern/spool"
)

func (in *instance) heldList(r *http.Request) (any, error) {
	v := r.URL.Query()
	q := quarantine.Query{
		Queue: v.Get("queue"), From: v.Get("from"), To: v.Get("to"), Subject: v.Get("subject"), Rule: v.Get("rule"), Text: v.Get("text"),
		Body: v.Get("body") != "", State: quarantine.Held,
	}
	if v.Get("all") != "" {
		q.State = ""
	}
	if err := in.knownQueue(q.Queue); err != nil {
		return nil, err
	}
	q.Limit, _ = strconv.Atoi(v.Get("limit"))
	if s := v.Get("since"); s != "" {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return nil, badRequest("since: %v", err)
		}
		q.Since = at
	}
	items, err := in.quarantine.Search(r.Context(), q)
	if err != nil {
		return nil, err
	}
	rows := make([]heldRow, len(items))
	for i, it := range items {
		rows[i] = rowOf(it)
	}
	return rows, nil
}

// knownQueue refuses the name of a queue that nothing is ever held in.
func (in *instance) knownQueue(name string) error {
	known := map[string]int{"spam": 0, "policy": 0, "malware": 0, "ambiguous": 0}
	for q := range in.gateway.State().Policy.Quarantine.Queue {
		known[q] = 0
	}
	if err := in.heldTotals(known); err != nil {
		return err
	}
	if _, ok := known[name]; !ok && name != "" {
		return badRequest("there is no queue %q; queues are %s", name, strings.Join(sortedKeys(known), ", "))
	}
	return nil
}

func (in *instance) heldShow(r *http.Request) (any, error) {
	it, err := in.quarantine.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return rowOf(it), nil
}

// rowOf is the item as the command line shows it.
func rowOf(it *quarantine.Item) heldRow {
	row := heldRow{
		ID: it.ID, Transaction: it.Transaction, Received: it.At, Queue: it.Queue, State: string(it.State), Original: it.Original, Direction: string(it.Direction),
		ReversePath: it.ReversePath.String(), From: it.Author.String(), Subject: it.Subject, MessageID: it.MessageID, Size: it.Size, Score: it.Score, Rule: it.Rule, Why: it.Why,
		To: []heldTo{}, Symbols: []heldSign{},
	}
	if it.Session.Client.IsValid() {
		row.Client = it.Session.Client.Addr().String()
	}
	for _, t := range it.To {
		row.To = append(row.To, heldTo{t.Path.String(), string(t.State)})
	}
	for _, s := range it.Symbols {
		row.Symbols = append(row.Symbols, heldSign{s.Name, s.Score, string(s.Part), s.Evidence})
	}
	return row
}

// heldBody streams the message. The audit log knows of it before the first byte
// is read.
func (in *instance) heldBody(w http.ResponseWriter, r *http.Request) {
	body, it, err := in.quarantine.Read(r.Context(), r.PathValue("id"), quarantine.Access{Actor: actor(r), Purpose: "read"})
	if err != nil {
		writeError(w, err)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", "message/rfc822")
	if _, err := io.Copy(w, body); err != nil {
		in.log.Error("read held message", "held", it.ID, "error", err)
		panic(http.ErrAbortHandler) // the status is sent: cut the connection, so that the reader sees that it is not whole
	}
}

func (in *instance) heldRelease(r *http.Request) (any, error) {
	var req releaseRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	to, err := paths(req.To)
	if err != nil {
		return nil, err
	}
	release := gateway.Release{ID: r.PathValue("id"), To: to, Actor: actor(r), Reason: req.Note, Malware: req.Malware, Whole: req.Whole}
	if req.Copy != "" {
		one, err := paths([]string{req.Copy})
		if err != nil {
			return nil, err
		}
		release.Copy = one[0]
	}
	done, err := in.gateway.Release(r.Context(), release)
	switch {
	case errors.Is(err, gateway.ErrMalware):
		return nil, fmt.Errorf("%w; say --malware to release it all the same", err)
	case errors.Is(err, gateway.ErrNobody):
		return nil, fmt.Errorf("%w; postern quarantine show %s says for whom it was held, --copy sends it elsewhere", err, release.ID)
	case err != nil:
		return nil, err
	}
	answer := releaseAnswer{Queue: done.Queue}
	for _, t := range done.Taken {
		answer.Taken = append(answer.Taken, taken(t))
	}
	for _, p := range done.To {
		answer.To = append(answer.To, p.String())
	}
	return answer, nil
}

func (in *instance) heldDelete(r *http.Request) (any, error) {
	var req releaseRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	it, err := in.quarantine.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if !it.Body {
		return nil, fmt.Errorf("%s is %s: its message is gone already", it.ID, it.State)
	}
	err = in.audit.Append(r.Context(), audit.Record{Event: audit.Delete, ID: it.Transaction, Item: it.ID, Queue: it.Queue, Actor: actor(r), Reason: req.Note})
	if err != nil {
		return nil, err
	}
	if err := in.quarantine.Delete(r.Context(), it.ID); err != nil {
		return nil, err
	}
	in.mailLog.Write(audit.MailEvent{
		Msg: audit.MsgDeleted, ID: it.Transaction, Held: it.ID, Direction: string(it.Direction), From: it.ReversePath.String(), Size: it.Size,
		Status: "deleted", Rule: it.Rule, Queue: it.Queue, Policy: short(it.Policy), By: actor(r), Reason: req.Note,
	})
	return struct{}{}, nil
}

// forget erases what is kept of an address: held bodies, personal fields of
// held messages and of audit records, who has written to whom, and what the
// spool still has of mail that is done. Mail that waits in the queue stays.
func (in *instance) forget(r *http.Request) (any, error) {
	var req forgetRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	held, err := in.quarantine.Forget(r.Context(), req.Address, req.All)
	if err != nil {
		return nil, err
	}
	records, err := in.audit.Forget(r.Context(), req.Address, actor(r))
	if err != nil {
		return nil, err
	}
	met, err := in.contacts.forget(r.Context(), req.Address)
	if err != nil {
		return nil, err
	}
	if err := in.spool.Scrub(r.Context()); err != nil {
		return nil, fmt.Errorf("mail that is done may still be readable in the spool; try again: %w", err)
	}
	return forgetAnswer{Held: len(held.Erased), Shared: len(held.Shared), Records: records.Records, Contacts: met, Queued: in.queuedWith(req.Address)}, nil
}

// queuedWith counts the messages in the queue that have an address in their
// envelope.
func (in *instance) queuedWith(address string) int {
	n := 0
	for _, e := range in.spool.List() {
		if strings.EqualFold(e.From.String(), address) ||
			slices.ContainsFunc(e.To, func(to spool.Recipient) bool { return strings.EqualFold(to.Path.String(), address) }) {
			n++
		}
	}
	return n
}

// heldTotals counts what waits, by queue.
func (in *instance) heldTotals(count map[string]int) error {
	totals, err := in.quarantine.Totals(context.Background())
	for _, t := range totals {
		if t.State == quarantine.Held {
			count[t.Queue] += t.Messages
		}
	}
	return err
}
