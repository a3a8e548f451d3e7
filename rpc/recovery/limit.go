package recovery

import (
	"net"
	"sync"
	"time"
)

const (
	// An address may ask this often at once: as many nodes may come back together
	// from behind it.
	burst = 100
	// And then once in this time.
	each = 200 * time.Millisecond
	// So many addresses are told apart; all others share one allowance.
	addresses = 4096
)

// limit is how often requests are taken from each address.
type limit struct {
	mu sync.Mutex
	of map[string]bucket
}

// bucket is full again at a time that only grows by what is taken.
type bucket struct{ full time.Time }

// take reports whether one more request from an address, "host:port", is taken.
func (l *limit) take(addr string, now time.Time) bool {
	host := hostOf(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.of[host]; !known && len(l.of) >= addresses {
		for h, b := range l.of {
			if !b.full.After(now) {
				delete(l.of, h)
			}
		}
		if len(l.of) >= addresses {
			host = ""
		}
	}
	b := l.of[host]
	if b.full.Before(now) {
		b.full = now
	}
	if b.full.Sub(now) > (burst-1)*each {
		return false
	}
	b.full = b.full.Add(each)
	l.of[host] = b
	return true
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
