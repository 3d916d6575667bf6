package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

// The parameters of new hashes: OWASP's for argon2id, about 0.1 s.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
)

// Bounds of the parameters in a file, so that a slip does not stop the machine.
const (
	maxArgonMemory = 1 << 20 // KiB
	maxArgonTime   = 64
)

// passwordHash is a hash in the form $argon2id$v=19$m=19456,t=2,p=1$salt$key.
type passwordHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// HashPassword returns the argon2id hash of a password in the form that the
// accounts file has after the user's name and a colon. A nil random is
// crypto/rand.
func HashPassword(password string, random io.Reader) (string, error) {
	if password == "" {
		return "", errors.New("hash password: it is empty")
	}
	if random == nil {
		random = rand.Reader
	}
	salt := make([]byte, argonSalt)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	key := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// parseHash reads what HashPassword and other programs write.
func parseHash(t string) (h passwordHash, err error) {
	f := strings.Split(t, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errors.New("not an argon2id hash: want $argon2id$v=19$m=...,t=...,p=...$salt$key")
	}
	if _, err = fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return h, fmt.Errorf("parameters %q: %w", f[3], err)
	}
	if h.memory < 8 || h.memory > maxArgonMemory || h.time < 1 || h.time > maxArgonTime || h.threads < 1 {
		return h, fmt.Errorf("parameters %q out of bounds", f[3])
	}
	b64 := base64.RawStdEncoding
	if h.salt, err = b64.DecodeString(f[4]); err == nil {
		h.key, err = b64.DecodeString(f[5])
	}
	if err != nil || len(h.salt) < 8 || len(h.key) < 16 {
		return h, errors.New("salt or key is damaged")
	}
	return h, nil
}

// matches hashes a password in the way of h and compares.
func (h *passwordHash) matches(password string) bool {
	key := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

// Accounts verifies passwords against a file with a line user:hash for each
// user; empty lines and lines that begin with # are skipped. User names are
// compared without regard to case. The file is read again when it changes; one
// that cannot be read leaves the old users in place.
type Accounts struct {
	path string
	log  *slog.Logger
	work chan struct{} // as many as may be hashed at once
	watch

	mu    sync.Mutex
	users map[string]passwordHash
	decoy passwordHash // what a user who does not exist is compared with
}

// OpenAccounts reads the file. log may be nil.
func OpenAccounts(path string, log *slog.Logger) (*Accounts, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Accounts{path: path, log: log, watch: watch{paths: []string{path}}}
	// Each hash takes its memory: as many at once as there are processors.
	a.work = make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	a.changed(time.Now())
	return a, a.load()
}

func (a *Accounts) load() error {
	text, err := os.ReadFile(a.path)
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	users, err := parseAccounts(text)
	if err != nil {
		return fmt.Errorf("read accounts: %s:%w", a.path, err)
	}
	decoy := passwordHash{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, argonSalt), key: make([]byte, argonKey)}
	for _, h := range users {
		// Unknown users must take as long as known ones: with the costliest
		// parameters that are in use.
		if uint64(h.memory)*uint64(h.time) >= uint64(decoy.memory)*uint64(decoy.time) {
			decoy.memory, decoy.time, decoy.threads = h.memory, h.time, h.threads
		}
	}
	a.mu.Lock()
	a.users, a.decoy = users, decoy
	a.mu.Unlock()
	return nil
}

// parseAccounts reads the lines of an accounts file. An error begins with the
// number of its line.
func parseAccounts(text []byte) (map[string]passwordHash, error) {
	users := map[string]passwordHash{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		user = strings.ToLower(strings.TrimSpace(user))
		if !ok || user == "" {
			return nil, fmt.Errorf("%d: want user:hash", n)
		}
		if _, twice := users[user]; twice {
			return nil, fmt.Errorf("%d: user %s stands here twice", n, user)
		}
		h, err := parseHash(strings.TrimSpace(hash))
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		users[user] = h
	}
	return users, lines.Err()
}

// Verify returns nil if the password is the user's, ErrAuth if not, which takes
// as long when there is no such user, and another error if it cannot tell.
func (a *Accounts) Verify(ctx context.Context, user, password string) error {
	if a.changed(time.Now()) {
		if err := a.load(); err != nil {
			a.log.Error("accounts not loaded", "err", err)
		}
	}
	select {
	case a.work <- struct{}{}:
		defer func() { <-a.work }()
	case <-ctx.Done():
		return fmt.Errorf("verify password: %w", ctx.Err())
	}
	a.mu.Lock()
	h, known := a.users[strings.ToLower(user)]
	if !known {
		h = a.decoy
	}
	a.mu.Unlock()
	if !h.matches(password) || !known {
		return ErrAuth
	}
	return nil
}
