package relay

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/emersion/go-smtp"
	"golang.org/x/sync/errgroup"

	"postern/mail"
)

// recipientsAtOnce is how many recipients go into one transaction. RFC 5321
// section 4.5.3.1.8: every server takes a hundred.
const recipientsAtOnce = 100

// A delivery is one call of Deliver.
type delivery struct {
	*Client
	hop   *Hop
	m     *Mail
	probe bool   // only ask for the recipients
	mode  string // the TLS mode in force
	out   []Outcome
	rank  []rank
}

// Deliver carries m to hop and says what became of each recipient, in the order
// of m.To. It tries the hop's addresses in turn for those recipients whose fate
// no address settled. It returns when all is known or ctx ends.
func (c *Client) Deliver(ctx context.Context, hop *Hop, m *Mail) []Outcome {
	out := c.newDelivery(hop, m, false).run(ctx)
	for i := range out {
		c.count(&out[i])
	}
	return out
}

func (c *Client) newDelivery(hop *Hop, m *Mail, probe bool) *delivery {
	return &delivery{
		Client: c, hop: hop, m: m, probe: probe, mode: effectiveTLS(hop, m),
		out: make([]Outcome, len(m.To)), rank: make([]rank, len(m.To)),
	}
}

// routesAtOnce is how many domains' mail servers are talked to side by side.
const routesAtOnce = 8

// run follows the routes of all recipients.
func (d *delivery) run(ctx context.Context) []Outcome {
	if routes := d.routes(d.sayable()); len(routes) == 1 {
		d.follow(ctx, routes[0])
	} else {
		d.followAll(ctx, routes)
	}
	for i := range d.out {
		d.finish(i)
	}
	return d.out
}

// followAll follows several routes side by side. Each has its own recipients.
func (d *delivery) followAll(ctx context.Context, routes []route) {
	var group errgroup.Group
	group.SetLimit(routesAtOnce)
	for _, r := range routes {
		group.Go(func() error { d.follow(ctx, r); return nil })
	}
	_ = group.Wait() // there are only nil errors
}

// errClosed says that the client was closed.
var errClosed = errors.New("relay client is closed")

// over returns why a delivery is to end, or nil.
func (c *Client) over(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.pools.ended.Load():
		return errClosed
	}
	return nil
}

// effectiveTLS returns the mode in force: the hop's, tightened by the demands.
func effectiveTLS(hop *Hop, m *Mail) string {
	mode, d := hop.TLS, m.Demands
	setDefault(&mode, TLSOpportunistic)
	d.RequireTLS = m.requireTLS()
	switch mode = mail.StricterTLS(mode, d.MinimumTLS()); mode {
	case TLSNone, TLSOpportunistic, TLSRequired:
		return mode
	}
	return TLSVerify
}

// sayable returns the recipients that can be put on a command line, and settles
// the others.
func (d *delivery) sayable() []int {
	left := make([]int, 0, len(d.m.To))
	var buf [64]byte
	_, fromErr := appendPath(buf[:0], d.m.From)
	for i := range d.m.To {
		_, err := appendPath(buf[:0], d.m.To[i].Path)
		switch {
		case fromErr != nil:
			d.learn(i, result{rank: settled, reply: replyBadFrom, err: fromErr})
		case d.m.To[i].IsNull():
			d.learn(i, result{rank: settled, reply: replyBadTo, err: fmt.Errorf("%w: null forward-path", errUnsayable)})
		case err != nil:
			d.learn(i, result{rank: settled, reply: replyBadTo, err: err})
		default:
			left = append(left, i)
		}
	}
	return left
}

// learn takes in what is newly known of a recipient, unless something better is
// known already.
func (d *delivery) learn(i int, r result) {
	if r.rank <= d.rank[i] {
		return
	}
	d.rank[i] = r.rank
	o := &d.out[i]
	o.Reply, o.Said, o.Err, o.Hop, o.TLS, o.DSN = r.reply, r.said, r.err, r.hop, r.tls, r.dsn
}

// learnAll is learn for several recipients.
func (d *delivery) learnAll(to []int, r result) {
	for _, i := range to {
		d.learn(i, r)
	}
}

// finish fills the outcome of one recipient in.
func (d *delivery) finish(i int) {
	o := &d.out[i]
	o.Recipient = d.m.To[i].Path
	o.Delivered = d.rank[i] == delivered
	o.Down = d.rank[i] == down
	if d.rank[i] == unknown {
		o.Reply, o.Err, o.Down = replyDown, errors.New("next hop has no address to try"), true
	}
}

// follow tries the addresses of a route until none of its recipients is left.
func (d *delivery) follow(ctx context.Context, r route) {
	left, skipped, tries := r.to, []target(nil), 0
	for _, entry := range r.entries {
		places, f := d.places(ctx, entry, r.domain)
		if f != nil {
			left = d.unplaced(left, f)
		}
		for _, p := range places {
			if len(left) == 0 {
				return
			}
			targets, f := d.targets(ctx, p)
			if f != nil {
				left = d.unplaced(left, f)
			}
			for _, t := range targets {
				if len(left) == 0 || tries >= maxTries {
					break
				}
				if d.paths.allows(d.pathKey(t), d.o.Now(), false) {
					left = d.try(ctx, t, left)
					tries++
				} else {
					skipped = append(skipped, t)
				}
			}
		}
	}
	// Addresses that were left alone because they failed lately are better than
	// none. Only mail that has nowhere else to go comes here.
	for _, t := range skipped {
		if len(left) > 0 && tries < maxTries && d.paths.allows(d.pathKey(t), d.o.Now(), true) {
			left = d.try(ctx, t, left)
			tries++
		}
	}
	if len(skipped) > 0 {
		err := errResting
		if cause := d.paths.cause(d.pathKey(skipped[0])); cause != "" {
			err = fmt.Errorf("%w: %s", errResting, cause)
		}
		d.learnAll(left, result{rank: down, reply: replyDown, err: err, hop: skipped[0].label()})
	}
}

// maxTries bounds the addresses that one delivery tries: DNS may name hundreds.
const maxTries = 20

// errResting says that no address was tried because all of them failed a moment
// ago.
var errResting = errors.New("next hop could not be reached a moment ago")

// unplaced takes in that a name led nowhere, and returns the recipients for
// whom another may.
func (d *delivery) unplaced(to []int, f *failure) []int {
	r := result{rank: down, reply: f.reply, err: f.cause}
	if f.reply.Permanent() {
		r.rank = lacking // a temporary failure elsewhere is the better answer
	}
	d.learnAll(to, r)
	return to
}

// try brings the mail to one address and returns the recipients for which the
// next address may be tried.
func (d *delivery) try(ctx context.Context, t target, to []int) (left []int) {
	for len(to) > 0 {
		if err := d.over(ctx); err != nil {
			d.paths.leave(d.pathKey(t))
			d.learnAll(to, result{rank: down, reply: replyLost, err: err})
			return nil
		}
		cn, f := d.connection(ctx, t, false)
		if f != nil {
			return append(left, d.unreached(t, to, f)...)
		}
		n := min(len(to), recipientsAtOnce)
		if cn.caps.rcptMax > 0 {
			n = min(n, cn.caps.rcptMax) // RFC 9422 section 4.2
		}
		results, f := d.transact(ctx, t, cn, to[:n])
		if f != nil {
			return append(left, d.unreached(t, to, f)...)
		}
		again := d.learnResults(to[:n], results, &left)
		to = append(to[n:len(to):len(to)], again...)
	}
	return left
}

// learnResults takes the results of one transaction in. It adds to left those
// for whom another address may be tried, and returns those who are to go into
// another transaction on this one.
func (d *delivery) learnResults(to []int, results []result, left *[]int) (again []int) {
	some := false
	for k := range results {
		some = some || results[k].rank == delivered
	}
	for k, i := range to {
		// RFC 5321 section 4.5.3.1.10: 452 says that the next hop takes no more
		// recipients in this transaction.
		if some && results[k].rank == putOff && tooMany(results[k].reply) {
			again = append(again, i)
			continue
		}
		d.learn(i, results[k])
		if results[k].rank < settled {
			*left = append(*left, i)
		}
	}
	return again
}

// tooMany reports whether a reply to RCPT is about the number of recipients.
func tooMany(r mail.Reply) bool {
	return r.Code == 452 && (r.Enhanced == smtp.EnhancedCode{4, 5, 3} || r.Enhanced == smtp.EnhancedCode{})
}

// unreached takes in that an address could not be reached.
func (d *delivery) unreached(t target, to []int, f *failure) []int {
	r := result{rank: down, reply: f.reply, err: f.cause, hop: t.label()}
	if d.m.requireTLS() && errors.Is(f.cause, errNoSTARTTLS) {
		r.rank, r.reply = lacking, replyNoReq // RFC 8689 section 4.2.1
	}
	d.learnAll(to, r)
	return to
}

// connection returns a connection to t, from the pool or new.
func (d *delivery) connection(ctx context.Context, t target, fresh bool) (*conn, *failure) {
	key, limit := d.poolKey(t), d.hop.Connections
	if limit <= 0 {
		limit = 20
	}
	cn, err := d.pools.get(ctx, key, limit, fresh)
	if err != nil {
		d.paths.leave(d.pathKey(t))
		return nil, &failure{replyLost, fmt.Errorf("wait for connection to %s: %w", t.label(), err)}
	}
	if cn != nil {
		d.stats.reused.Add(1)
		d.paths.leave(d.pathKey(t))
		return cn, nil
	}
	began := d.o.Now()
	cn, f := d.dial(ctx, d.hop, t, key)
	if f == nil {
		d.paths.up(d.pathKey(t))
		return cn, nil
	}
	d.pools.drop(key, nil)
	if d.over(ctx) != nil || errors.Is(f.cause, errNoSTARTTLS) {
		d.paths.leave(d.pathKey(t)) // says nothing about the address
	} else {
		d.paths.down(d.pathKey(t), began, d.o.Now(), f.cause)
	}
	return nil, f
}

// transact runs one transaction and gives the connection back. If a pooled
// connection turns out to be dead before anything can have been accepted, it
// makes one new connection and tries again.
func (d *delivery) transact(ctx context.Context, t target, cn *conn, to []int) ([]result, *failure) {
	for {
		began := d.o.Now()
		tx := &transaction{c: cn, m: d.m, hop: d.hop, probe: d.probe, to: to, results: make([]result, len(to))}
		stale := false
		if f := tx.lacks(); f != nil {
			tx.settle(result{rank: lacking, reply: f.reply, err: f.cause})
		} else {
			stale = tx.run(ctx)
		}
		for k := range tx.results {
			r := &tx.results[k]
			r.hop, r.tls, r.dsn = cn.label, cn.tls, r.rank == delivered && cn.caps.dsn
		}
		if tx.broken == nil {
			d.pools.put(cn)
			return tx.results, nil
		}
		_ = cn.Close()
		d.pools.drop(cn.key, cn.raw)
		// One that hangs would cost every message as long again.
		if errors.Is(tx.broken, os.ErrDeadlineExceeded) && !tx.endSent && d.over(ctx) == nil {
			d.paths.down(d.pathKey(t), began, d.o.Now(), tx.broken)
		}
		if !stale {
			return tx.results, nil
		}
		var f *failure
		if cn, f = d.connection(ctx, t, true); f != nil {
			return nil, f
		}
	}
}

// poolKey says which connections will do for this delivery.
func (d *delivery) poolKey(t target) poolKey {
	return poolKey{
		hop: d.hop.Name, address: t.key, host: t.host, tls: d.mode, config: d.hop.TLSConfig, serverName: d.hop.ServerName,
		user: d.hop.User, password: d.hop.Password, lmtp: d.hop.LMTP,
	}
}

// pathKey is what the back-off knows an address by: what fails under one mode
// may work under another.
func (d *delivery) pathKey(t target) pathKey { return pathKey{d.hop.Name, t.key, d.mode} }
