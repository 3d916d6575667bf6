package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern/filters"
	"postern/mail"
)

const (
	maxOutput = 4 << 10     // bytes of output that are kept
	maxLine   = 200         // bytes of the line that becomes evidence
	waitDelay = time.Second // how long a child may hold the pipes open
)

// executable reports whether path can be run.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("find program: %w", err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not a program", path)
	}
	return nil
}

// run runs the program on the message. hit is true for exit status 1; line is
// then the first line of output.
func run(ctx context.Context, program, env []string, message io.Reader) (hit bool, line string, err error) {
	var out, errs head
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, "/", message, &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its children can be killed too
	cmd.WaitDelay = waitDelay
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		// It left children behind that hold its output open: no verdict rests on
		// what they may still say.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return false, "", fmt.Errorf("run %s: %w", program[0], ctx.Err())
	case err == nil:
		return false, "", nil
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return true, firstLine(out.buf.Bytes()), nil
	case errs.buf.Len() > 0:
		return false, "", fmt.Errorf("run %s: %w: %s", program[0], err, firstLine(errs.buf.Bytes()))
	}
	return false, "", fmt.Errorf("run %s: %w", program[0], err)
}

// A head keeps the start of what is written to it.
type head struct{ buf bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.buf.Write(p[:min(len(p), maxOutput-h.buf.Len())])
	return len(p), nil
}

// firstLine returns the first line that is not blank, fit for evidence.
func firstLine(b []byte) string {
	for line := range bytes.Lines(b) {
		if text := strings.TrimSpace(string(line)); text != "" {
			return filters.Clean(text, maxLine)
		}
	}
	return ""
}

// environment returns the envelope as the program gets it, and nothing of our
// own environment.
func environment(tx *mail.Transaction) []string {
	to := make([]string, len(tx.Recipients))
	for i := range tx.Recipients {
		to[i] = tx.Recipients[i].String()
	}
	client := ""
	if tx.Client.IsValid() {
		client = tx.Client.Addr().Unmap().String()
	}
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"LANG=C.UTF-8",
		"POSTERN_ID=" + word(tx.ID),
		"POSTERN_FROM=" + word(tx.ReversePath.String()),
		"POSTERN_TO=" + strings.Join(words(to), "\n"),
		"POSTERN_CLIENT=" + client,
		"POSTERN_CLIENT_NAME=" + word(tx.ClientName),
		"POSTERN_HELO=" + word(tx.Helo),
		"POSTERN_USER=" + word(tx.User),
		"POSTERN_DIRECTION=" + string(tx.Direction),
		"POSTERN_LISTENER=" + word(tx.Listener),
		"POSTERN_SIZE=" + strconv.FormatInt(tx.Message.Size(), 10),
	}
	return env
}

// word takes control characters out of a value: an environment cannot hold NUL,
// and POSTERN_TO has one address a line.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

func words(list []string) []string {
	for i := range list {
		list[i] = word(list[i])
	}
	return list
}
