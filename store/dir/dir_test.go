package dir

import (
	"testing"

	"postern/store"
	"postern/store/storetest"
)

func TestBlobs(t *testing.T) {
	storetest.Blobs(t, func(t *testing.T) store.Blobs {
		b, err := OpenBlobs(t.TempDir(), BlobOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func TestLog(t *testing.T) {
	roots := map[string]string{}
	storetest.Log(t, func(t *testing.T) store.Log {
		if roots[t.Name()] == "" {
			roots[t.Name()] = t.TempDir()
		}
		l, err := OpenLog(roots[t.Name()])
		if err != nil {
			t.Fatal(err)
		}
		return l
	})
}
