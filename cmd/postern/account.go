package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"postern/smtpd"
)

type accountCmd struct {
	Name string `arg:"" help:"The user's name."`
}

// Run reads a password from standard input and prints the line for the accounts
// file of a listener.
func (a *accountCmd) Run(g *globals) error {
	if strings.ContainsAny(a.Name, ": \t\r\n") || a.Name == "" {
		return &exitError{exitUsage, fmt.Errorf("%q cannot be a user's name", a.Name)}
	}
	if f, ok := g.in.(*os.File); ok && !g.Quiet {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprint(g.err, "Password (it is shown): ")
		}
	}
	password, err := bufio.NewReader(g.in).ReadString('\n')
	password = strings.TrimRight(password, "\r\n")
	switch {
	case password != "":
	case err == nil || errors.Is(err, io.EOF):
		return errors.New("there is no password on standard input: type one, or pipe it in")
	default:
		return fmt.Errorf("read the password from standard input: %w", err)
	}
	hash, err := smtpd.HashPassword(password, rand.Reader)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.out, "%s:%s\n", a.Name, hash)
	return nil
}
