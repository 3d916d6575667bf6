package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/BurntSushi/toml"
)

// controlSocket is the Unix socket in the state directory on which a running
// gateway listens to the other subcommands. Its mode is 0600: who can open it
// may command the gateway.
const controlSocket = "control.sock"

// defaultState is what the policy's [storage] state is when nothing is said.
const defaultState = "/var/lib/postern"

// A controlClient talks to a running gateway: HTTP with JSON over its socket.
type controlClient struct {
	path string
	http *http.Client
}

// control returns a client for the gateway of this state directory.
func (g *globals) control() (*controlClient, error) {
	dir, err := g.stateDir()
	if err != nil {
		return nil, err
	}
	return dialControl(dir), nil
}

// call asks the running gateway: in and out are JSON, either may be nil.
func (g *globals) call(method, path string, in, out any) error {
	c, err := g.control()
	if err != nil {
		return err
	}
	return c.call(method, path, in, out)
}

// printRows prints the rows that the running gateway has at path: as JSON one
// object a line, else as a table that print writes.
func printRows[T any](g *globals, path string, asJSON bool, print func(w io.Writer, rows []T)) error {
	var rows []T
	if err := g.call("GET", path, nil, &rows); err != nil {
		return err
	}
	if asJSON {
		return printJSON(g.out, rows...)
	}
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	print(w, rows)
	return w.Flush()
}

// stateDir is where the state lies: --state, or what the policy says. Mistakes
// elsewhere in the policy do not matter: it is when a policy was refused that
// people ask for the status.
func (g *globals) stateDir() (string, error) {
	if g.State != "" {
		return g.State, nil
	}
	var p struct {
		Storage struct {
			State string `toml:"state"`
		} `toml:"storage"`
	}
	text, err := os.ReadFile(g.Config)
	if err != nil {
		return "", noPolicy(g.Config, err)
	}
	if _, err := toml.Decode(string(text), &p); err != nil {
		return "", fmt.Errorf("read [storage] state from %s: %w; --state names the directory too", g.Config, err)
	}
	if p.Storage.State == "" {
		return defaultState, nil
	}
	return p.Storage.State, nil
}

// dialControl returns a client for the gateway of a state directory.
func dialControl(dir string) *controlClient {
	path := filepath.Join(dir, controlSocket)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &controlClient{path: path, http: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 5 * time.Minute}}
}

// call sends in as JSON and decodes the answer into out; either may be nil.
func (c *controlClient) call(method, path string, in, out any) error {
	resp, err := c.do(method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// copyTo streams the answer, a message, to w.
func (c *controlClient) copyTo(w io.Writer, method, path string, in any) error {
	resp, err := c.do(method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if isScreen(w) {
		return toScreen(w, resp.Body)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}

func (c *controlClient) do(method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://postern"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var e controlError
	if json.NewDecoder(resp.Body).Decode(&e) != nil || e.Error == "" {
		e.Error = resp.Status
	}
	code := exitFailed
	switch resp.StatusCode {
	case http.StatusBadRequest:
		code = exitUsage
	case http.StatusForbidden:
		code = exitNotAllowed
	case http.StatusServiceUnavailable:
		code = exitTryAgain
	}
	return nil, &exitError{code, errors.New(e.Error)}
}

func (c *controlClient) unreachable(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return &exitError{exitNotAllowed, fmt.Errorf("you may not open %s; run this as the gateway's user", c.path)}
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &exitError{exitUnreachable, fmt.Errorf("no gateway is running on %s; start it with: postern serve", c.path)}
	}
	return &exitError{exitUnreachable, fmt.Errorf("reach the gateway: %w", err)}
}

// controlError is the body of every answer that is not a success.
type controlError struct {
	Error string `json:"error"`
}

// printJSON writes one object a line.
func printJSON[T any](w io.Writer, rows ...T) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	for _, row := range rows {
		text.Reset()
		if err := enc.Encode(row); err != nil {
			return err
		}
		if _, err := w.Write(plainJSON(text.Bytes())); err != nil {
			return err
		}
	}
	return nil
}
