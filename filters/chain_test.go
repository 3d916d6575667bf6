package filters

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"postern/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type checkFunc func(ctx context.Context, tx *mail.Transaction, in Results) (Verdict, error)

func (f checkFunc) Check(ctx context.Context, tx *mail.Transaction, in Results) (Verdict, error) {
	return f(ctx, tx, in)
}

// says reports one symbol.
func says(name string) checkFunc {
	return func(context.Context, *mail.Transaction, Results) (Verdict, error) {
		return Verdict{Symbols: []Symbol{{Name: name}}}, nil
	}
}

func declare(name string, stage Stage, requires []string, symbols ...string) *Filter {
	f := &Filter{Name: name, Stage: stage, Requires: requires}
	for _, s := range symbols {
		f.Symbols = append(f.Symbols, SymbolDoc{Name: s, Score: 1})
	}
	return f
}

func mustLink(t testing.TB, c *Chain, f *Filter, checker Checker, s LinkSettings) {
	t.Helper()
	if err := c.Link(f, checker, s); err != nil {
		t.Fatal(err)
	}
}

func TestLinkRefuses(t *testing.T) {
	var c Chain
	mustLink(t, &c, declare("a", Data, nil), says("A"), LinkSettings{})
	for _, test := range []struct {
		filter *Filter
		want   string
	}{
		{declare("a", Data, nil), "linked twice"},
		{declare("b", Data, []string{"c"}), "requires c, which is switched off or stands after it"},
		{declare("b", Mail, []string{"a"}), "requires a, which runs at a later stage"},
	} {
		if err := c.Link(test.filter, says("X"), LinkSettings{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Link(%s): %v, want %q", test.filter.Name, err, test.want)
		}
	}
	if c.Order("b") != -1 || c.Order("a") != 0 || len(c.Filters()) != 1 {
		t.Error("a refused filter is in the chain")
	}
}

// TestDeterminism runs a graph of twenty filters with random delays: what each
// saw and what came out never depends on who finished first.
func TestDeterminism(t *testing.T) {
	build := func(delay func() time.Duration) *Chain {
		c := &Chain{}
		shape := rand.New(rand.NewPCG(1, 2))
		for i := range 20 {
			var needs []string
			for k := range i {
				if shape.IntN(4) == 0 {
					needs = append(needs, fmt.Sprintf("f%d", k))
				}
			}
			f := declare(fmt.Sprintf("f%d", i), Data, needs, fmt.Sprintf("S%d", i))
			f.Light = i%5 == 0
			mustLink(t, c, f, checkFunc(func(_ context.Context, _ *mail.Transaction, in Results) (Verdict, error) {
				time.Sleep(delay())
				saw := ""
				for _, r := range in {
					saw += r.Filter + "(" + r.Verdict.Symbols[0].Evidence + ")"
				}
				if i == 13 {
					return Verdict{}, errors.New("broken")
				}
				return Verdict{Symbols: []Symbol{{Name: f.Symbols[0].Name, Evidence: saw}}}, nil
			}), LinkSettings{})
		}
		return c
	}
	same := cmp.Options{cmpopts.IgnoreFields(Result{}, "Elapsed"), cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })}
	want := build(func() time.Duration { return 0 }).Check(t.Context(), &mail.Transaction{})
	if len(want) != 20 || want[13].Err == nil {
		t.Fatalf("%d results", len(want))
	}
	slow := build(func() time.Duration { return time.Duration(rand.IntN(300)) * time.Microsecond })
	for range 300 {
		if diff := cmp.Diff(want, slow.Check(t.Context(), &mail.Transaction{}), same); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestSeesOnlyWhatItRequires(t *testing.T) {
	var c Chain
	for _, n := range []string{"a", "b", "c"} {
		mustLink(t, &c, declare(n, Data, nil, strings.ToUpper(n)), says(strings.ToUpper(n)), LinkSettings{})
	}
	var got []string
	mustLink(t, &c, declare("d", Data, []string{"c", "a"}), checkFunc(func(_ context.Context, _ *mail.Transaction, in Results) (Verdict, error) {
		for _, r := range in {
			got = append(got, r.Filter)
		}
		if len(in.Find("B")) != 0 {
			t.Error("d sees b")
		}
		return Verdict{}, nil
	}), LinkSettings{})
	c.Check(t.Context(), &mail.Transaction{})
	if diff := cmp.Diff([]string{"c", "a"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestBroken(t *testing.T) {
	const limit = 30 * time.Millisecond
	release := make(chan struct{})
	defer close(release)
	for name, test := range map[string]struct {
		check checkFunc
		want  error
	}{
		"error":      {func(context.Context, *mail.Transaction, Results) (Verdict, error) { return Verdict{}, errBoom }, errBoom},
		"undeclared": {says("OTHER"), ErrUndeclared},
		"time": {func(ctx context.Context, _ *mail.Transaction, _ Results) (Verdict, error) {
			<-ctx.Done()
			return Verdict{}, ctx.Err()
		}, ErrTimeout},
		"late verdict": {func(ctx context.Context, _ *mail.Transaction, _ Results) (Verdict, error) {
			<-ctx.Done()
			return Verdict{Symbols: []Symbol{{Name: "A"}}}, nil
		}, ErrTimeout},
		"never returns": {func(context.Context, *mail.Transaction, Results) (Verdict, error) {
			<-release
			return Verdict{}, nil
		}, ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			var c Chain
			mustLink(t, &c, declare("a", Data, nil, "A"), test.check, LinkSettings{Timeout: limit})
			mustLink(t, &c, declare("b", Data, []string{"a"}, "B"), says("B"), LinkSettings{OnFailure: FailureIgnore})
			mustLink(t, &c, declare("c", Data, nil, "C"), says("C"), LinkSettings{})
			rs := c.Check(t.Context(), &mail.Transaction{})
			if !errors.Is(rs[0].Err, test.want) || len(rs[0].Verdict.Symbols) != 0 || rs[0].Ignored {
				t.Errorf("a: %+v", rs[0])
			}
			if !errors.Is(rs[1].Err, ErrRequired) || !rs[1].Ignored {
				t.Errorf("b: %+v", rs[1])
			}
			if _, ok := rs.Of("c"); !ok {
				t.Errorf("c: %+v", rs[2])
			}
		})
	}
}

var errBoom = errors.New("boom")

func TestPanicKeepsStack(t *testing.T) {
	for _, light := range []bool{true, false} {
		var c Chain
		f := declare("a", Data, nil)
		f.Light = light
		mustLink(t, &c, f, checkFunc(func(context.Context, *mail.Transaction, Results) (Verdict, error) { panic("ouch") }), LinkSettings{})
		err := c.Check(t.Context(), &mail.Transaction{})[0].Err
		var p *Panic
		if !errors.As(err, &p) || !strings.Contains(string(p.Stack), "TestPanicKeepsStack") || err.Error() != "filter a: panic: ouch" {
			t.Errorf("light %v: %v", light, err)
		}
	}
}

func TestLightTimeLimit(t *testing.T) {
	var c Chain
	f := declare("a", Data, nil)
	f.Light = true
	mustLink(t, &c, f, checkFunc(func(context.Context, *mail.Transaction, Results) (Verdict, error) {
		time.Sleep(2 * time.Millisecond)
		return Verdict{}, nil
	}), LinkSettings{Timeout: time.Millisecond})
	if err := c.Check(t.Context(), &mail.Transaction{})[0].Err; !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var c Chain
	light := declare("a", Data, nil, "A")
	light.Light = true
	mustLink(t, &c, light, says("A"), LinkSettings{})
	mustLink(t, &c, declare("b", Data, nil, "B"), says("B"), LinkSettings{})
	for _, r := range c.Check(ctx, &mail.Transaction{}) {
		if !errors.Is(r.Err, context.Canceled) {
			t.Errorf("%s: %v", r.Filter, r.Err)
		}
	}
}

func TestStages(t *testing.T) {
	var c Chain
	var runs atomic.Int32
	count := func(symbol string) checkFunc {
		return func(context.Context, *mail.Transaction, Results) (Verdict, error) {
			runs.Add(1)
			return Verdict{Symbols: []Symbol{{Name: symbol}}}, nil
		}
	}
	mustLink(t, &c, declare("late", Data, nil, "LATE"), count("LATE"), LinkSettings{})
	mustLink(t, &c, declare("early", Connect, nil, "EARLY"), count("EARLY"), LinkSettings{})
	mustLink(t, &c, declare("mail", Mail, []string{"early"}, "MAIL"), count("MAIL"), LinkSettings{})
	mustLink(t, &c, declare("never", Data, nil), count(""), LinkSettings{})
	c.scans[3].filter.NoScan = true
	c.scans = c.scans[:3]

	names := func(rs Results) (names []string) {
		for _, r := range rs {
			names = append(names, r.Filter)
		}
		return names
	}
	rs := c.CheckStage(t.Context(), Connect, &mail.Transaction{}, nil)
	if diff := cmp.Diff([]string{"early"}, names(rs)); diff != "" {
		t.Error(diff)
	}
	rs = c.CheckStage(t.Context(), Mail, &mail.Transaction{}, rs)
	rs = c.CheckStage(t.Context(), Rcpt, &mail.Transaction{}, rs)
	if diff := cmp.Diff([]string{"early", "mail"}, names(rs)); diff != "" {
		t.Error(diff)
	}
	rs = c.CheckStage(t.Context(), Data, &mail.Transaction{}, rs)
	if diff := cmp.Diff([]string{"late", "early", "mail"}, names(rs)); diff != "" {
		t.Error(diff)
	}
	if n := runs.Load(); n != 3 {
		t.Errorf("%d runs", n)
	}
	if again := c.CheckStage(t.Context(), Data, &mail.Transaction{}, rs); len(again) != 3 || runs.Load() != 3 {
		t.Error("a filter ran twice")
	}
}

func TestScores(t *testing.T) {
	shared := []Symbol{{Name: "A"}, {Name: "B", Score: 5}, {Name: "C", Score: 5}}
	f := declare("f", Data, nil, "A", "B", "C")
	var c Chain
	mustLink(t, &c, f, checkFunc(func(context.Context, *mail.Transaction, Results) (Verdict, error) {
		return Verdict{Symbols: shared}, nil
	}), LinkSettings{Scores: map[string]float64{"C": -2, "OTHER": 9}})
	rs := c.Check(t.Context(), &mail.Transaction{})
	for i, want := range []float64{1, 5, -2} {
		if got := rs[0].Verdict.Symbols[i].Score; got != want {
			t.Errorf("symbol %d: %v, want %v", i, got, want)
		}
	}
	if shared[0].Score != 0 {
		t.Error("the chain changed the filter's own slice")
	}
	shared[1].Score = math.NaN()
	if err := c.Check(t.Context(), &mail.Transaction{})[0].Err; err == nil {
		t.Error("a score that is no number is a verdict")
	}
}

type service struct {
	checkFunc
	opened error
	said   []string
}

func (s *service) Open(_ context.Context, env *Env) error { return s.opened }
func (s *service) Warnings() []string                     { return s.said }

func TestOpenAndWarnings(t *testing.T) {
	var c Chain
	mustLink(t, &c, declare("a", Data, nil), &service{opened: errBoom, said: []string{"mind the gap"}}, LinkSettings{})
	mustLink(t, &c, declare("b", Data, nil), &service{}, LinkSettings{})
	if err := c.Open(t.Context(), &Env{}); !errors.Is(err, errBoom) || err.Error() != "open filter a: boom" {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"filter a: mind the gap"}, c.Warnings()); diff != "" {
		t.Error(diff)
	}
}

type rewriteFunc func(ctx context.Context, in RewriteInput) (*mail.Message, error)

func (f rewriteFunc) Check(context.Context, *mail.Transaction, Results) (Verdict, error) {
	return Verdict{}, nil
}

func (f rewriteFunc) Rewrite(ctx context.Context, in RewriteInput) (*mail.Message, error) {
	return f(ctx, in)
}

func TestRewrite(t *testing.T) {
	var c Chain
	link := func(name string, f rewriteFunc) {
		mustLink(t, &c, &Filter{Name: name, NoScan: true}, f, LinkSettings{Timeout: 10 * time.Millisecond})
	}
	link("good", func(context.Context, RewriteInput) (*mail.Message, error) { return &mail.Message{}, nil })
	link("panic", func(context.Context, RewriteInput) (*mail.Message, error) { panic("ouch") })
	link("nothing", func(context.Context, RewriteInput) (*mail.Message, error) { return nil, nil })
	link("fails", func(context.Context, RewriteInput) (*mail.Message, error) { return &mail.Message{}, errBoom })
	link("slow", func(ctx context.Context, _ RewriteInput) (*mail.Message, error) {
		<-ctx.Done()
		return &mail.Message{}, nil
	})
	mustLink(t, &c, declare("scan", Data, nil), says(""), LinkSettings{})
	for _, name := range []string{"panic", "nothing", "fails", "slow", "scan", "unknown"} {
		if m, err := c.Rewrite(t.Context(), name, RewriteInput{Action: "x"}); err == nil || m != nil {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	if m, err := c.Rewrite(t.Context(), "good", RewriteInput{}); err != nil || m == nil {
		t.Errorf("good: %v", err)
	}
	if len(c.Check(t.Context(), &mail.Transaction{})) != 1 {
		t.Error("a filter that only rewrites was run")
	}
}

func TestFailureText(t *testing.T) {
	var f Failure
	if f.UnmarshalText([]byte("ignore")) != nil || f != FailureIgnore || f.UnmarshalText([]byte("ignored")) == nil {
		t.Error(f)
	}
}

func BenchmarkLightChain(b *testing.B) {
	var c Chain
	f := declare("a", Data, nil)
	f.Light = true
	mustLink(b, &c, f, checkFunc(func(context.Context, *mail.Transaction, Results) (Verdict, error) { return Verdict{}, nil }), LinkSettings{})
	tx := &mail.Transaction{}
	b.ReportAllocs()
	for b.Loop() {
		c.Check(context.Background(), tx)
	}
}

// idle has nothing to do and says where it was asked.
type idle struct{ stack string }

func (*idle) Idle() bool { return true }

func (i *idle) Check(context.Context, *mail.Transaction, Results) (Verdict, error) {
	i.stack = string(debug.Stack())
	return Verdict{}, nil
}

func TestIdle(t *testing.T) {
	var c Chain
	i := &idle{}
	mustLink(t, &c, declare("a", Data, nil), i, LinkSettings{})
	rs := c.Check(t.Context(), &mail.Transaction{})
	if len(rs) != 1 || rs[0].Filter != "a" || rs[0].Err != nil {
		t.Errorf("%+v", rs)
	}
	if !strings.Contains(i.stack, "TestIdle") {
		t.Errorf("an idle filter ran on a goroutine of its own:\n%s", i.stack)
	}
}

func TestRuns(t *testing.T) {
	var c Chain
	mustLink(t, &c, declare("a", Rcpt, nil, "A"), says("A"), LinkSettings{})
	if c.Runs(Mail) || !c.Runs(Rcpt) || !c.Runs(Data) {
		t.Error("a filter of stage Rcpt runs from Rcpt on")
	}
}
