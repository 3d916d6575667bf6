package virus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// An EngineState is what an engine says of itself.
type EngineState struct {
	Engine     string    // as in the settings
	Version    string    // "ClamAV 1.4.1"
	Signatures time.Time // when its signatures were made; zero: it has none, or does not say
	Err        error     // it cannot be reached, or said something else
}

// States asks each engine of the settings what it is.
func (c *Checker) States(ctx context.Context) []EngineState {
	all := make([]EngineState, len(c.Engines))
	for i, text := range c.Engines {
		all[i].Engine = text
		network, address, err := parseEngine(text)
		if err == nil {
			all[i].Version, all[i].Signatures, err = version(ctx, network, address)
		}
		all[i].Err = err
	}
	return all
}

// version asks one clamd: "ClamAV 1.4.1/27400/Mon Sep 16 10:32:39 2024".
func version(ctx context.Context, network, address string) (string, time.Time, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, "zVERSION\x00"); err != nil {
		return "", time.Time{}, fmt.Errorf("ask for the version: %w", err)
	}
	reply, err := io.ReadAll(io.LimitReader(conn, maxReply))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("ask for the version: %w", err)
	}
	line, ended := bytes.CutSuffix(reply, []byte{0})
	if !ended || bytes.IndexByte(line, 0) >= 0 || !bytes.HasPrefix(line, []byte("ClamAV ")) {
		return "", time.Time{}, fmt.Errorf("%w: %q", errReply, reply[:min(len(reply), 80)])
	}
	name, rest, _ := strings.Cut(string(line), "/")
	_, made, _ := strings.Cut(rest, "/")
	at, err := time.Parse(time.ANSIC, made)
	if err != nil {
		return name, time.Time{}, nil // without signatures it only says what it is
	}
	return name, at, nil
}
