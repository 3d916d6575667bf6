package smtpd

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// addressFactor is how many times MaxFailures ban a whole address: it may
	// be the office of many users, one of whom mistypes.
	addressFactor = 4
	// knownFailures bounds the memory: the least recent are forgotten.
	knownFailures = 1 << 16
	// maxAuthDelay is the longest that a wrong password waits for its answer.
	maxAuthDelay = 8 * time.Second
)

// failures remembers wrong passwords: by address and account, by address, and by
// account. The last only delays the answer to a wrong password: a ban by account
// would let anybody lock its owner out.
type failures struct {
	mu       sync.Mutex
	pairs    *lru.Cache[pair, failure]
	hosts    *lru.Cache[netip.Addr, failure]
	accounts *lru.Cache[string, failure]
}

type pair struct {
	host    netip.Addr
	account string
}

// failure is how often it went wrong, and when the last time was.
type failure struct {
	count int
	last  time.Time
}

func newFailures() *failures {
	pairs, _ := lru.New[pair, failure](knownFailures) // fails for a size below 1 only
	hosts, _ := lru.New[netip.Addr, failure](knownFailures)
	accounts, _ := lru.New[string, failure](knownFailures)
	return &failures{pairs: pairs, hosts: hosts, accounts: accounts}
}

func key(host netip.Addr, account string) pair {
	return pair{network(host), strings.ToLower(account)}
}

// banned reports whether an account may not be tried from an address.
func (f *failures) banned(host netip.Addr, account string, c *Config) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, _ := f.pairs.Get(key(host, account))
	return p.within(c) >= c.MaxFailures || f.host(host, c) >= addressFactor*c.MaxFailures
}

// bannedHost reports whether an address may not try any account.
func (f *failures) bannedHost(host netip.Addr, c *Config) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.host(host, c) >= addressFactor*c.MaxFailures
}

func (f *failures) host(host netip.Addr, c *Config) int {
	h, _ := f.hosts.Get(network(host))
	return h.within(c)
}

// add counts a wrong password and returns how long its answer has to wait.
func (f *failures) add(host netip.Addr, account string, c *Config) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := c.Now()
	k := key(host, account)
	p, _ := f.pairs.Get(k)
	f.pairs.Add(k, failure{p.within(c) + 1, now})
	h, _ := f.hosts.Get(k.host)
	n := h.within(c) + 1
	f.hosts.Add(k.host, failure{n, now})
	if k.account != "" {
		a, _ := f.accounts.Get(k.account)
		tries := a.within(c) + 1
		f.accounts.Add(k.account, failure{tries, now})
		n = max(n, tries)
	}
	return authDelay(c.AuthDelay, n)
}

// forget takes back the failures of an account that has logged in. Those of
// the address stay: knowing one password must not help to guess others.
func (f *failures) forget(host netip.Addr, account string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pairs.Remove(key(host, account))
}

// within returns the count while the last failure is less than a ban ago.
func (f failure) within(c *Config) int {
	if f.count == 0 || c.Now().Sub(f.last) >= c.Ban {
		return 0
	}
	return f.count
}

// authDelay doubles with each failure.
func authDelay(first time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < maxAuthDelay; n-- {
		d *= 2
	}
	return min(d, max(first, maxAuthDelay))
}
