package main

import (
	"fmt"
	"net/http"
	"slices"

	"postern/audit"
	"postern/queue"
	"postern/spool"
)

func (in *instance) queueList(r *http.Request) (any, error) {
	v := r.URL.Query()
	items := in.queue.List(queue.Filter{From: v.Get("from"), To: v.Get("to"), Upstream: v.Get("upstream"), Text: v.Get("text")})
	rows := make([]queueRow, len(items))
	for i, it := range items {
		rows[i] = queueRow{
			ID: it.ID, Transaction: it.Transaction, Received: it.Received, From: it.From.String(), Upstream: it.Upstream, Size: it.Size,
			State: string(it.Status), Attempts: it.Attempts, Next: it.Next, Cause: it.Cause, To: []queueRecipient{},
		}
		for _, to := range it.To {
			row := queueRecipient{Address: to.Path.String(), State: to.State.String()}
			if to.Reply.Code != 0 {
				row.Reply = to.Reply.String()
			}
			rows[i].To = append(rows[i].To, row)
		}
	}
	return rows, nil
}

func (in *instance) queueAct(r *http.Request) (any, error) {
	var req queueRequest
	if err := decode(r, &req); err != nil {
		return nil, err
	}
	verb := r.PathValue("verb")
	acts := map[string]func(string) error{
		"retry": in.queue.Retry, "suspend": in.queue.Suspend, "resume": in.queue.Resume,
		"drop": func(id string) error {
			err := in.audit.Append(r.Context(), audit.Record{Event: audit.Delete, ID: id, Detail: "dropped from the queue", Actor: actor(r), Reason: req.Reason})
			if err != nil {
				return err
			}
			return in.queue.Drop(id, req.Reason)
		},
	}
	act := acts[verb]
	if act == nil {
		return nil, badRequest("no verb %q", verb)
	}
	suspended := map[string]bool{}
	ids, all := req.IDs, slices.Contains(req.IDs, "all") && verb != "drop"
	if all {
		ids = nil
	}
	for _, it := range in.queue.List(queue.Filter{}) {
		suspended[it.ID] = it.Status == queue.StatusSuspended
		if all && (verb != "retry" || !suspended[it.ID]) {
			ids = append(ids, it.ID)
		}
	}
	for _, id := range ids {
		switch held, ok := suspended[id]; {
		case !ok:
			return nil, spool.ErrNotFound
		case held && verb == "retry":
			return nil, fmt.Errorf("%s is suspended; let it go with: postern queue resume %s", id, id)
		}
		if err := act(id); err != nil {
			return nil, err
		}
	}
	return queueAnswer{len(ids)}, nil
}
