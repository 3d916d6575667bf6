package smtpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// watchInterval is how often, at most, files are looked at for changes.
const watchInterval = time.Second

// watch tells when files have changed.
type watch struct {
	paths []string

	lock sync.Mutex
	next time.Time // when to look again
	seen []stamp
}

type stamp struct {
	time time.Time
	size int64
}

// changed reports whether the files have changed since it last looked, which
// it does once in watchInterval.
func (w *watch) changed(now time.Time) bool {
	w.lock.Lock()
	defer w.lock.Unlock()
	if now.Before(w.next) && w.seen != nil {
		return false
	}
	w.next = now.Add(watchInterval)
	seen := make([]stamp, len(w.paths))
	for i, p := range w.paths {
		if info, err := os.Stat(p); err == nil {
			seen[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	same := len(seen) == len(w.seen)
	for i := range seen {
		same = same && seen[i] == w.seen[i]
	}
	w.seen = seen
	return !same
}

// Certificates is a certificate and its key in files. They are loaded again
// when the files change; a pair that does not load leaves the old one in use.
type Certificates struct {
	certificate, key string
	log              *slog.Logger
	watch

	pair     atomic.Pointer[tls.Certificate]
	onReload atomic.Pointer[func()]
}

// OnReload has f called whenever changed files have been loaded.
func (c *Certificates) OnReload(f func()) { c.onReload.Store(&f) }

// LoadCertificates loads a PEM certificate chain and its key. log may be nil.
func LoadCertificates(certificate, key string, log *slog.Logger) (*Certificates, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Certificates{certificate: certificate, key: key, log: log, watch: watch{paths: []string{certificate, key}}}
	c.changed(time.Now())
	return c, c.load()
}

func (c *Certificates) load() error {
	pair, err := tls.LoadX509KeyPair(c.certificate, c.key)
	if err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	c.pair.Store(&pair)
	return nil
}

// Certificate returns the pair in use, after a look at the files.
func (c *Certificates) Certificate() *tls.Certificate {
	if c.changed(time.Now()) {
		if err := c.load(); err != nil {
			c.log.Error("certificate not loaded", "err", err)
		} else if f := c.onReload.Load(); f != nil {
			(*f)()
		}
	}
	return c.pair.Load()
}

// Config returns TLS settings for a listener: minimum is "1.2" (if empty) or
// "1.3"; clients that show a certificate of one of the authorities in the PEM
// file clientCA are verified, if it is not empty.
func (c *Certificates) Config(minimum, clientCA string) (*tls.Config, error) {
	t := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Certificate(), nil },
	}
	switch minimum {
	case "", "1.2":
	case "1.3":
		t.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("unknown TLS version %q: want 1.2 or 1.3", minimum)
	}
	if clientCA == "" {
		return t, nil
	}
	text, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read client authorities: no certificate in %s", clientCA)
	}
	t.ClientAuth = tls.VerifyClientCertIfGiven
	return t, nil
}

// SelfSigned returns the paths of a certificate and key for hostname in dir,
// and makes them if they are not there, so that STARTTLS works from the first
// start. The key is made first and readable by its owner only.
func SelfSigned(dir, hostname string, now time.Time) (certificate, key string, err error) {
	certificate, key = filepath.Join(dir, "selfsigned.pem"), filepath.Join(dir, "selfsigned.key")
	if _, err = tls.LoadX509KeyPair(certificate, key); err == nil {
		return certificate, key, nil
	}
	if _, err = os.Stat(certificate); !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("self-signed certificate %s does not load: remove it to have a new one made", certificate)
	}
	certText, keyText, err := makePair(hostname, now)
	if err != nil {
		return "", "", fmt.Errorf("make certificate: %w", err)
	}
	if err = os.MkdirAll(dir, 0o700); err == nil {
		if err = writeFile(key, keyText, 0o600); err == nil {
			err = writeFile(certificate, certText, 0o644)
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("write certificate: %w", err)
	}
	return certificate, key, nil
}

// makePair makes a certificate for ten years and its P-256 key, in PEM.
func makePair(hostname string, now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: hostname},
		DNSNames:     []string{hostname},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// writeFile writes a file as a whole: nobody ever sees half of it.
func writeFile(name string, text []byte, mode fs.FileMode) error {
	tmp := name + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	return err
}
