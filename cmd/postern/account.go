package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"strings"

	"postern/smtpd"
)

type accountCmd struct {
	Name string `arg:"" help:"The user's name."`
}

// Run reads a password from standard input and prints the line for the accounts
// file of a listener.
func (a *accountCmd) Run(g *globals) error {
	password, err := bufio.NewReader(g.in).ReadString('\n')
	password = strings.TrimRight(password, "\r\n")
	if password == "" {
		if err == nil {
			err = fmt.Errorf("it is empty")
		}
		return fmt.Errorf("read the password from standard input: %w", err)
	}
	if strings.ContainsAny(a.Name, ": \t\r\n") || a.Name == "" {
		return &exitError{exitUsage, fmt.Errorf("%q cannot be a user's name", a.Name)}
	}
	hash, err := smtpd.HashPassword(password, rand.Reader)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.out, "%s:%s\n", a.Name, hash)
	return nil
}
