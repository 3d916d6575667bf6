package audit

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"postern/store"
)

const (
	flushAfter   = time.Second
	flushBytes   = 512 << 10 // that wait
	backlogLimit = 64 << 20  // bytes that wait for a log that cannot be written
)

// Options say where a Log lies and what it may use.
type Options struct {
	Log     store.Log // the Log closes it
	Head    string    // file of the signed head
	Key     string    // file of the signing key, made on the first start
	Now     func() time.Time
	Rand    io.Reader     // default: crypto/rand
	Report  *slog.Logger  // for failures that no caller is told of
	Section int64         // bytes after which a section ends and can be cut; default 16 MiB
	Age     time.Duration // time after which a section ends; default a day
}

// A Log is the audit log. It is safe for concurrent use.
type Log struct {
	o    Options
	key  ed25519.PrivateKey
	head *headFile
	last store.Section // that there was when it was opened

	randMu sync.Mutex
	rand   *bufio.Reader

	mu      sync.Mutex // guards what follows
	seq     uint64     // of the last record
	hash    Hash       // of the last record
	chunks  []chunk    // not yet written
	waiting int        // bytes in chunks
	spare   []byte     // room for the next chunk
	section int64      // bytes since the last checkpoint
	since   time.Time  // of the last checkpoint
	waiters []chan error
	closed  bool

	writeMu sync.Mutex // held while writing; guards first and failing
	first   uint64     // of the oldest record that must be there
	failing bool

	wake chan struct{}
	done chan struct{}

	checking sync.WaitGroup
	enough   context.CancelFunc // ends it
}

// A chunk is a run of chained lines. It begins a section if roll is set.
type chunk struct {
	first uint64
	last  uint64
	hash  Hash // of the last
	lines []byte
	roll  bool
}

// Open opens the log and begins to write it in the background until Close.
func Open(ctx context.Context, o Options) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Section <= 0 {
		o.Section = 16 << 20
	}
	if o.Age <= 0 {
		o.Age = 24 * time.Hour
	}
	l := &Log{o: o, rand: bufio.NewReaderSize(o.Rand, 4096), wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := l.resume(ctx); err != nil {
		if l.head != nil {
			l.head.f.Close()
		}
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	go l.run()
	ctx, l.enough = context.WithCancel(context.WithoutCancel(ctx))
	l.checking.Go(func() { l.check(ctx) })
	return l, nil
}

// check names the first record that does not verify in the section that was
// written last. The others were checked when they were the last one; Verify
// checks all.
func (l *Log) check(ctx context.Context) {
	if l.last.Lines == 0 || l.o.Report == nil {
		return
	}
	w := &walk{key: l.PublicKey(), head: Head{First: l.last.First}}
	err := l.o.Log.Read(ctx, l.last.First, func(n uint64, line []byte) error {
		if n >= l.last.First+l.last.Lines {
			return nil // it was written since
		}
		return errors.Join(w.step(n, line), ctx.Err())
	})
	if bad := (*BadRecord)(nil); errors.As(err, &bad) {
		l.o.Report.Error("the audit log was changed or is damaged: postern audit verify", "record", bad.Seq, "why", bad.Why)
	}
}

// resume finds the end of the chain and compares it with the head.
func (l *Log) resume(ctx context.Context) error {
	last, section, err := lastLine(ctx, l.o.Log)
	if err != nil {
		return err
	}
	l.last = section
	random := l.o.Rand
	if last != nil {
		random = nil // a new key would not fit what was signed with the old one
	}
	if l.key, err = loadKey(l.o.Key, random); err != nil {
		return err
	}
	if l.head, err = openHead(l.o.Head, false); err != nil {
		return err
	}
	head, ok, err := l.head.read(l.key.Public().(ed25519.PublicKey))
	if err != nil {
		return err
	}
	l.first = max(head.First, 1)
	if last != nil {
		l.seq, l.hash = last.fields.Seq, last.hash
	}
	switch {
	case ok && head.Seq > l.seq:
		return l.damaged(fmt.Sprintf("records %d to %d are missing at the end", l.seq+1, head.Seq))
	case !ok && last != nil:
		return l.damaged("the head is missing or not signed with this key")
	case ok && head.Seq == l.seq && head.Hash != l.hash.String():
		return l.damaged("the last record is not the one that the head names")
	}
	if what := l.o.Log.Repaired(); what != "" {
		if l.o.Report != nil {
			l.o.Report.Warn("the end of the audit log was repaired", "what", what)
		}
		return l.add(Record{Event: Repair, Detail: what}, nil)
	}
	return nil
}

// damaged notes in the chain itself what is wrong, for every later Verify.
func (l *Log) damaged(what string) error {
	if l.seq == 0 {
		// Nothing is left: the chain begins anew, with this note.
		l.first = 1
	}
	if repaired := l.o.Log.Repaired(); repaired != "" {
		what += "; " + repaired
	}
	if l.o.Report != nil {
		l.o.Report.Error("the audit log is damaged: postern audit verify", "what", what)
	}
	return l.add(Record{Event: Damage, Detail: what}, nil)
}

// lastLine returns the last line of the log and its section; nil if it is empty.
func lastLine(ctx context.Context, log store.Log) (*line, store.Section, error) {
	var none store.Section
	sections, err := log.Sections(ctx)
	if err != nil {
		return nil, none, err
	}
	for i := len(sections) - 1; i >= 0; i-- {
		if sections[i].Lines == 0 {
			continue
		}
		var text []byte
		err := log.Read(ctx, sections[i].First, func(n uint64, line []byte) error {
			if n == sections[i].First+sections[i].Lines-1 {
				text = append(text, line...)
			}
			return nil
		})
		if err != nil {
			return nil, none, err
		}
		last, err := parse(text)
		if err == nil && last.fields.Seq != sections[i].First+sections[i].Lines-1 {
			err = errors.New("it has another number")
		}
		if err != nil {
			return nil, none, fmt.Errorf("the last record cannot be read (%w): move the folder of the audit log aside and keep it; a new log begins at the next start", err)
		}
		return last, sections[i], nil
	}
	return nil, none, nil
}

// Append adds a record and returns when it is durable. If ctx ends before, the
// record may become durable all the same.
func (l *Log) Append(ctx context.Context, r Record) error {
	done := make(chan error, 1)
	if err := l.add(r, done); err != nil {
		return fmt.Errorf("append audit record: %w", err)
	}
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("append audit record: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AppendLater adds a record that becomes durable within about a second, or at
// Close. ErrBacklog means that it was not added.
func (l *Log) AppendLater(r Record) error {
	if err := l.add(r, nil); err != nil {
		return fmt.Errorf("append audit record: %w", err)
	}
	return nil
}

// buffers holds the room in which a record is encoded.
var buffers = sync.Pool{New: func() any { return &buffer{} }}

type buffer struct {
	body, fields, values []byte
	salts                [len(personalNames) * saltLen]byte
}

// add encodes a record outside the lock, and chains it within.
func (l *Log) add(r Record, done chan error) error {
	if r.At.IsZero() {
		r.At = l.o.Now()
	}
	r.At = r.At.UTC().Truncate(time.Millisecond)
	for _, v := range r.personal() {
		if !utf8.ValidString(*v) { // its hash must fit what is read back
			*v = strings.ToValidUTF8(*v, "\ufffd")
		}
	}
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	l.randMu.Lock()
	_, err := io.ReadFull(l.rand, b.salts[:])
	l.randMu.Unlock()
	if err != nil {
		return err
	}
	b.fields = r.appendFields(b.fields[:0], b.salts[:], "")
	b.values = r.appendValues(b.values[:0], b.salts[:])

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return store.ErrClosed
	}
	if l.waiting > backlogLimit {
		return ErrBacklog
	}
	if l.seq == 0 || l.section >= l.o.Section || l.since.IsZero() || r.At.Sub(l.since) >= l.o.Age {
		l.checkpoint(r.At)
	}
	l.chain(b, b.fields, b.values)
	if done != nil {
		l.waiters = append(l.waiters, done)
	}
	if done != nil || l.waiting >= flushBytes {
		l.kick()
	}
	return nil
}

// kick makes the writer write now.
func (l *Log) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// chain gives the record its number and hash and adds its line to what waits.
func (l *Log) chain(b *buffer, fields, values []byte) {
	l.seq++
	b.body = strconv.AppendUint(append(b.body[:0], `{"seq":`...), l.seq, 10)
	b.body = append(b.body, fields...)
	l.hash = link(l.hash, b.body)
	if len(l.chunks) == 0 {
		l.chunks = append(l.chunks, chunk{first: l.seq, lines: l.spare})
		l.spare = nil
	}
	c := &l.chunks[len(l.chunks)-1]
	before := len(c.lines)
	c.lines = appendLine(c.lines, b.body, l.hash, values)
	c.last, c.hash = l.seq, l.hash
	n := len(c.lines) - before
	l.waiting += n
	l.section += int64(n)
}

// checkpoint begins a section with a signed record of the hash so far.
func (l *Log) checkpoint(at time.Time) {
	l.chunks = append(l.chunks, chunk{first: l.seq + 1, roll: true})
	l.section, l.since = 0, at
	r := Record{Event: Checkpoint, At: at}
	sig := ed25519.Sign(l.key, checkpointText(l.seq+1, at, l.hash))
	extra := `,"before":"` + l.hash.String() + `","signature":"` + encoding.EncodeToString(sig) + `"`
	b := &buffer{}
	l.chain(b, r.appendFields(nil, b.salts[:], extra), []byte(`,"values":{}`))
}

// run writes what waits until the log is closed.
func (l *Log) run() {
	defer close(l.done)
	tick := time.NewTicker(flushAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.wake:
		}
		err := l.flush(context.Background())
		l.report(err)
		l.mu.Lock()
		closed := l.closed
		l.mu.Unlock()
		if closed {
			return
		}
	}
}

// report says once that the log cannot be written, and once that it can again.
func (l *Log) report(err error) {
	l.writeMu.Lock()
	changed := l.failing != (err != nil)
	l.failing = err != nil
	l.writeMu.Unlock()
	if !changed || l.o.Report == nil {
		return
	}
	if err != nil {
		l.o.Report.Error("audit log cannot be written; records wait in memory", "err", err)
	} else {
		l.o.Report.Info("audit log is written again")
	}
}

// flush makes what waits durable and tells those who wait for it.
func (l *Log) flush(ctx context.Context) error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.mu.Lock()
	chunks, waiters := l.chunks, l.waiters
	l.chunks, l.waiters, l.waiting = nil, nil, 0
	l.mu.Unlock()
	written, err := l.write(ctx, chunks)
	l.putBack(chunks[:written], chunks[written:])
	for _, w := range waiters {
		w <- err
	}
	return err
}

// putBack returns chunks that could not be written to the front of the line,
// and keeps the room of one that was.
func (l *Log) putBack(written, left []chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range written {
		if cap(c.lines) > cap(l.spare) && cap(c.lines) <= 4*flushBytes {
			l.spare = c.lines[:0]
		}
	}
	if len(left) > 0 {
		l.chunks = append(left, l.chunks...)
		for _, c := range left {
			l.waiting += len(c.lines)
		}
	}
}

// write appends chunks to the store and notes the new head. It returns how many
// are durable.
func (l *Log) write(ctx context.Context, chunks []chunk) (int, error) {
	for i, c := range chunks {
		if c.roll {
			if err := l.o.Log.Roll(ctx); err != nil {
				return i, err
			}
		}
		if err := l.o.Log.Append(ctx, c.first, c.lines); err != nil {
			return i, err
		}
	}
	if len(chunks) == 0 {
		return 0, nil
	}
	end := chunks[len(chunks)-1]
	return len(chunks), l.writeHead(end.last, end.hash)
}

func (l *Log) writeHead(seq uint64, hash Hash) error {
	return l.head.write(Head{First: l.first, Seq: seq, Hash: hash.String(), At: l.o.Now().UTC().Truncate(time.Second)}, l.key)
}

// Sync makes all records durable that were added so far.
func (l *Log) Sync(ctx context.Context) error {
	if err := l.flush(ctx); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

// Head returns the number and hash of the last record added: noted in another
// place, it proves later that nothing before it was changed.
func (l *Log) Head() (seq uint64, hash Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq, l.hash
}

// PublicKey returns the key with which checkpoints and heads are signed.
func (l *Log) PublicKey() ed25519.PublicKey { return l.key.Public().(ed25519.PublicKey) }

// Close writes what waits and closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.kick()
	<-l.done
	l.enough()
	l.checking.Wait()
	err := l.flush(context.Background()) // what the last run could not write, once more
	return errors.Join(err, l.head.f.Sync(), l.head.f.Close(), l.o.Log.Close())
}
