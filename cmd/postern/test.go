package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"postern/dns"
	"postern/gateway"
	"postern/mail"
	"postern/policy"
)

type testCmd struct {
	JSON bool `help:"Print JSON, one object a line." name:"json"`
}

// Run runs the policy's own tests.
func (t *testCmd) Run(g *globals) error {
	p, err := g.load()
	if err != nil {
		return err
	}
	results, err := runPolicyTests(p)
	if err != nil {
		return err
	}
	failed := 0
	for _, r := range results {
		if !r.Passed {
			failed++
		}
		if t.JSON {
			if err := printJSON(g.out, r); err != nil {
				return err
			}
			continue
		}
		if r.Passed {
			fmt.Fprintf(g.out, "ok    %-48s %6.1f ms\n", r.Name, ms(r.Elapsed))
		} else {
			fmt.Fprintf(g.out, "FAIL  %s\n      expected %s, got %s\n", r.Name, r.Expected, r.Got)
			if r.Hint != "" {
				fmt.Fprintf(g.out, "      %s\n", r.Hint)
			}
		}
	}
	if !t.JSON {
		fmt.Fprintf(g.out, "%d passed, %d failed\n", len(results)-failed, failed)
	}
	if failed > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

// runPolicyTests judges the mail of each [[test]] by the same route as live
// mail, with filters that touch nothing outside.
func runPolicyTests(p *policy.Policy) ([]policy.TestResult, error) {
	if len(p.Tests) == 0 {
		return nil, nil
	}
	quiet := slog.New(slog.DiscardHandler)
	env := envOf(p, &dns.Zone{}, quiet)
	env.DryRun, env.Offline = true, true
	st, err := gateway.NewState(p, parseOptions(p), env)
	if err != nil {
		return nil, err
	}
	g := gateway.New(gateway.Options{Log: quiet}, st)
	defer g.Close()
	return p.RunTests(func(tx *mail.Transaction) ([]policy.Decision, error) {
		g.Begin(tx)
		defer g.Abort(tx)
		return g.Judge(context.Background(), tx).Decisions, nil
	}, time.Now), nil
}
