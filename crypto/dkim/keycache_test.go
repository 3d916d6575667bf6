package dkim

import (
	"fmt"
	"strings"
	"testing"
)

// TestKeyCache checks that a record is read once, that another record is
// another key, and that the cache stays within its bounds.
func TestKeyCache(t *testing.T) {
	c := NewKeyCache()
	good := record(t, "rsa")
	first, err := c.parse(good)
	again, err2 := c.parse(good)
	if err != nil || err2 != nil || first.Public != again.Public {
		t.Errorf("%v, %v: the key was read twice", err, err2)
	}
	if other, err := c.parse(good + "; t=y"); err != nil || !other.Testing || again.Testing {
		t.Errorf("another record: %+v, %v", other, err)
	}
	if _, err := c.parse("p="); err == nil || c.keys.Contains("p=") {
		t.Errorf("a record without a key is kept: %v", err)
	}
	long := good + "; n=" + strings.Repeat("x", cachedRecord)
	if _, err := c.parse(long); err != nil || c.keys.Contains(long) {
		t.Errorf("a long record is kept: %v", err)
	}
	for i := range 2 * cachedKeys {
		if _, err := c.parse(fmt.Sprintf("%s; n=%d", good, i)); err != nil {
			t.Fatal(err)
		}
	}
	if c.keys.Len() > cachedKeys {
		t.Errorf("%d keys are kept", c.keys.Len())
	}
	var none *KeyCache
	if k, err := none.parse(good); err != nil || k.Bits == 0 {
		t.Errorf("without a cache: %+v, %v", k, err)
	}
}
