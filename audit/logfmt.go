package audit

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// NewLogfmt returns a handler that writes lines such as
//
//	2026-11-21T09:41:07.512Z level=info msg="policy loaded" rules=12
//
// A value is quoted as a JSON string where it has to be: no value can end its
// line or pretend to be another key. Each line reaches w in one Write; w must be
// safe for concurrent use, as a LineWriter is.
func NewLogfmt(w io.Writer, level slog.Leveler) slog.Handler {
	return &logfmt{w: w, level: level}
}

// NewJSON returns a handler that writes JSON lines with the times and levels of
// NewLogfmt.
func NewJSON(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0:
		case a.Key == slog.LevelKey:
			a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
		case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
			a.Value = slog.StringValue(string(appendTime(nil, a.Value.Time())))
		}
		return a
	}})
}

// A logfmt is the handler of NewLogfmt.
type logfmt struct {
	w      io.Writer
	level  slog.Leveler
	prefix string // of keys: the open groups
	attrs  []byte // of WithAttrs
}

// Enabled implements slog.Handler.
func (h *logfmt) Enabled(_ context.Context, level slog.Level) bool {
	return h.level == nil && level >= slog.LevelInfo || h.level != nil && level >= h.level.Level()
}

// Handle implements slog.Handler.
func (h *logfmt) Handle(_ context.Context, r slog.Record) error {
	p := lines.Get().(*[]byte)
	defer lines.Put(p)
	b := (*p)[:0]
	if !r.Time.IsZero() {
		b = append(appendTime(b, r.Time), ' ')
	}
	b = appendLevel(append(b, "level="...), r.Level)
	b = appendValue(append(b, " msg="...), r.Message)
	b = append(b, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.prefix, a)
		return true
	})
	b = append(b, '\n')
	*p = b
	_, err := h.w.Write(b)
	return err
}

// WithAttrs implements slog.Handler.
func (h *logfmt) WithAttrs(attrs []slog.Attr) slog.Handler {
	h2 := *h
	h2.attrs = append([]byte(nil), h.attrs...)
	for _, a := range attrs {
		h2.attrs = appendAttr(h2.attrs, h.prefix, a)
	}
	return &h2
}

// WithGroup implements slog.Handler.
func (h *logfmt) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	h2 := *h
	h2.prefix += name + "."
	return &h2
}

// lines holds the room in which lines are made.
var lines = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

func appendLevel(b []byte, level slog.Level) []byte {
	switch level {
	case slog.LevelDebug:
		return append(b, "debug"...)
	case slog.LevelInfo:
		return append(b, "info"...)
	case slog.LevelWarn:
		return append(b, "warn"...)
	case slog.LevelError:
		return append(b, "error"...)
	}
	return append(b, strings.ToLower(level.String())...)
}

// appendAttr appends " key=value", or that for each member of a group.
func appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if a.Key == "" && v.Kind() != slog.KindGroup {
		return b
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, m := range v.Group() {
			b = appendAttr(b, prefix, m)
		}
		return b
	}
	b = appendKey(append(b, ' '), prefix)
	b = append(appendKey(b, a.Key), '=')
	switch v.Kind() {
	case slog.KindString:
		return appendValue(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(b, v.Uint64(), 10)
	case slog.KindFloat64:
		return strconv.AppendFloat(b, v.Float64(), 'g', -1, 64)
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindDuration:
		return append(b, v.Duration().String()...)
	case slog.KindTime:
		return appendTime(b, v.Time())
	}
	return appendValue(b, fmt.Sprint(v.Any()))
}

// appendKey appends a key; what cannot stand in one becomes "_".
func appendKey(b []byte, key string) []byte {
	for i := 0; i < len(key); i++ {
		c := key[i]
		if c <= ' ' || c == '=' || c == '"' || c >= 0x7f {
			c = '_'
		}
		b = append(b, c)
	}
	return b
}

// appendValue appends a value, quoted if it has to be.
func appendValue(b []byte, s string) []byte {
	if plain(s) {
		return append(b, s...)
	}
	return appendString(b, s)
}

// plain reports whether a value needs no quotes.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			return plainRunes(s[i:])
		}
		if c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f {
			return false
		}
	}
	return s != ""
}

func plainRunes(s string) bool {
	for i, r := range s {
		if r <= ' ' || r == '"' || r == '=' || r == '\\' || r == 0x7f || unsafeRune(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd") {
			return false
		}
	}
	return true
}

// A LineWriter makes a writer safe for concurrent use and can gather lines.
type LineWriter struct {
	w     io.Writer
	limit int
	stop  chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	buf    []byte
	lost   uint64
	closed bool
}

// NewLineWriter returns a writer that passes each Write on at once or, if every
// is not zero, gathers up to 64 KiB for that long.
func NewLineWriter(w io.Writer, every time.Duration) *LineWriter {
	l := &LineWriter{w: w}
	if every <= 0 {
		return l
	}
	l.limit, l.stop, l.done = 64<<10, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(l.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-l.stop:
				return
			}
			l.mu.Lock()
			l.flush()
			l.mu.Unlock()
		}
	}()
	return l
}

// Write implements io.Writer. p is whole lines.
func (l *LineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == 0 || l.closed {
		n, err := l.w.Write(p)
		if err != nil {
			l.lost += uint64(len(p) - n)
		}
		return n, err
	}
	if len(l.buf)+len(p) > l.limit {
		l.flush()
	}
	l.buf = append(l.buf, p...)
	return len(p), nil
}

func (l *LineWriter) flush() {
	if len(l.buf) > 0 {
		if n, err := l.w.Write(l.buf); err != nil {
			l.lost += uint64(len(l.buf) - n)
		}
		l.buf = l.buf[:0]
	}
}

// Lost returns how many bytes could not be written.
func (l *LineWriter) Lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Close writes what was gathered. Later writes are passed on at once. It does
// not close the writer below.
func (l *LineWriter) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.flush()
	l.mu.Unlock()
	if first && l.stop != nil {
		close(l.stop)
		<-l.done
	}
	return nil
}
