package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestRotateOwner checks that keys and audit records are not made out of the
// gateway's reach.
func TestRotateOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	c := newClinic(t)
	if err := os.Chown(c.path("state"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	c.examine(direct + "[filter.dkimsign]\ndirectory = \"" + c.path("state/dkim") + "\"\n")
	var out, errs bytes.Buffer
	code := run([]string{"-c", c.path("policy.toml"), "keys", "dkim", "rotate", "example.org"}, strings.NewReader(""), &out, &errs)
	if code != exitNotAllowed || !strings.Contains(errs.String(), "sudo -u nobody") || out.Len() > 0 {
		t.Errorf("exit code %d: %s %s", code, &out, &errs)
	}
	if entries, err := os.ReadDir(c.path("state")); err != nil || len(entries) > 0 {
		t.Errorf("something was made: %v, %v", entries, err)
	}
	all, _ := c.examine(direct)
	c.wants(all, "error state "+c.path("state")+": the gateway's files are those of the user nobody")
}

// TestRotateUsage has what is refused before anything is done.
func TestRotateUsage(t *testing.T) {
	c := newClinic(t)
	c.examine(direct + "[filter.dkimsign]\nenabled = false\n")
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"example.org"}, exitFailed, "is switched off"},
		{[]string{"example.org", "--type", "dsa"}, exitUsage, "--type"},
		{nil, exitUsage, "domain"},
	} {
		var out, errs bytes.Buffer
		code := run(append([]string{"-c", c.path("policy.toml"), "keys", "dkim", "rotate"}, x.args...), strings.NewReader(""), &out, &errs)
		if code != x.code || !strings.Contains(errs.String(), x.want) {
			t.Errorf("%v: exit code %d: %s", x.args, code, &errs)
		}
	}
	c.examine(direct + "[filter.dkimsign]\ndirectory = \"" + c.path("state/dkim") + "\"\n")
	for _, domain := range []string{"other.example", "Example.org", "badexample.org", "../example.org"} {
		var out, errs bytes.Buffer
		if code := run([]string{"-c", c.path("policy.toml"), "keys", "dkim", "rotate", domain}, strings.NewReader(""), &out, &errs); code != exitUsage {
			t.Errorf("%s: exit code %d: %s", domain, code, &errs)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"-c", c.path("policy.toml"), "keys", "dkim", "rotate", "example.org", "--dns", c.path("absent")}, strings.NewReader(""), &out, &errs); code != exitFailed {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}
