package postern_test

import (
	"path"
	"slices"
	"testing"
)

// layers is the order of the packages, highest first: a package imports only
// packages on lines below its own. A name with a star stands for every folder
// at that place that has no line of its own.
var layers = []string{
	"cmd/postern",
	"console",
	"smtpd",
	"gateway",
	"feedback",
	"policy",
	"quarantine",
	"queue",
	"audit",
	"filters/standard",
	"filters/*",
	"filters/filterstest",
	"filters",
	"relay",
	"spool",
	"crypto/*",
	"rules",
	"store/*",
	"store",
	"dns/*",
	"dns",
	"filters/dmarc/report",
	"mail/authres",
	"mail",
	"socket",
}

// layer returns the line on which a folder stands, or -1.
func layer(dir string) int {
	if i := slices.Index(layers, dir); i >= 0 {
		return i
	}
	return slices.IndexFunc(layers, func(l string) bool {
		ok, err := path.Match(l, dir)
		return ok && err == nil
	})
}

func TestLayers(t *testing.T) {
	for _, s := range readSources(t) {
		if s.test {
			continue
		}
		from := layer(s.dir())
		if from < 0 {
			t.Errorf("%s: package %s has no line in the list of layers", s.path, s.dir())
			continue
		}
		for _, dir := range s.imports() {
			if to := layer(dir); to <= from {
				t.Errorf("%s: %s imports %s, which does not stand below it", s.path, s.dir(), dir)
			}
		}
	}
}

func TestLayer(t *testing.T) {
	for _, c := range []struct {
		dir, line string
	}{
		{"mail", "mail"},
		{"filters", "filters"},
		{"filters/virus", "filters/*"},
		{"filters/standard", "filters/standard"},
		{"filters/filterstest", "filters/filterstest"},
		{"store/sqlite", "store/*"},
		{"filters/virus/clamd", ""},
		{"util", ""},
	} {
		got := ""
		if i := layer(c.dir); i >= 0 {
			got = layers[i]
		}
		if got != c.line {
			t.Errorf("layer(%q) = %q, want %q", c.dir, got, c.line)
		}
	}
}
