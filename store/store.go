package store

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Log makes transactions durable. Each element of data becomes one entry, in
// the given order. Propose does not wait; of the store it calls at most Apply and
// Applied before it returns. What came of an entry arrives through Apply or Refused.
//
// A log that has refused an entry refuses all that follow until the store is told
// to lead again: they were decided in the belief that the refused one will be, and
// their versions count on its index. No call of Propose is under way when Refused,
// Follow or Lead return, so that what was decided before never comes after.
//
// A log that also has a method Full() error is asked before each Update: while that is not
// nil nothing is taken, and who wants to write is told so. What was taken before, and what
// Propose takes, waits until there is space.
type Log interface {
	Propose(data [][]byte)
}

// Config is what a store needs. The zero value is usable.
type Config struct {
	// Now gives the time that is stamped on objects; nil means time.Now.
	Now func() time.Time
	// Log may also be given later, with SetLog, but before the store leads.
	Log Log
	// Logger gets leadership and refused entries; nil discards.
	Logger *slog.Logger
	// Metrics gets the store's collectors; nil means that none are kept.
	Metrics prometheus.Registerer
	// InFlightBytes bounds the encoded size of what is on its way through the log:
	// beyond it Update waits before it runs its function. Zero means 16 MiB.
	InFlightBytes int
	// HistoryEntries and HistoryBytes bound what Since can go back to.
	// Zero means 10,000 entries and 16 MiB, measured as encoded.
	HistoryEntries int
	HistoryBytes   int
	// Freeze is for tests: objects are hashed when they are stored, and one that
	// was changed since is a panic when it is replaced or by CheckFrozen.
	Freeze bool
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.InFlightBytes == 0 {
		c.InFlightBytes = 16 << 20
	}
	if c.HistoryEntries == 0 {
		c.HistoryEntries = 10_000
	}
	if c.HistoryBytes == 0 {
		c.HistoryBytes = 16 << 20
	}
	return c
}

// Store is the state of the cluster on one manager.
type Store struct {
	cfg       Config
	handing   chan struct{} // holds a token while the log is given entries; taken before mu
	committed atomic.Pointer[Snapshot]
	proposed  atomic.Pointer[Snapshot] // the same as committed while not leading

	mu       sync.Mutex
	log      Log
	leading  bool
	requests uint64     // ID of the last entry proposed
	given    uint64     // last version given
	applied  uint64     // index of the last entry applied
	flight   []*Pending // taken and not yet applied, in order
	handed   int        // how many of flight the log has been given
	bytes    int        // of flight
	// stranded were in the log when leadership was lost, in order, and ledIn is the term they
	// were proposed in: what becomes of them is what the next leader has.
	stranded []*Pending
	ledIn    uint64
	giveUp   *time.Timer // ends the waiting of the stranded
	giver    bool        // a goroutine is giving entries to the log
	gate     gate
	observer []*observation
	feed     feed
	reach    map[*reaching]struct{}
	frozen   *frozen
	encoder  *encoder
	decoder  *decoder // used by Apply alone, without the lock
	metrics  *metrics
}

// New returns an empty store that follows.
func New(cfg Config) *Store {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg:     cfg,
		log:     cfg.Log,
		handing: make(chan struct{}, 1),
		reach:   map[*reaching]struct{}{},
		frozen:  newFrozen(cfg.Freeze),
		encoder: newEncoder(),
		decoder: newDecoder(),
		feed:    newFeed(cfg.HistoryEntries, cfg.HistoryBytes),
	}
	s.committed.Store(empty())
	s.proposed.Store(s.committed.Load())
	s.metrics = newMetrics(s, cfg.Metrics)
	return s
}

// SetLog gives the store its log, before it leads for the first time.
func (s *Store) SetLog(l Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = l
}

// Read returns the committed head: what is durable on a majority and applied here.
func (s *Store) Read() *Snapshot { return s.committed.Load() }

// Proposed returns the proposed head, which may yet be lost: nothing read from
// it may leave the manager. While not leading it is the committed head.
func (s *Store) Proposed() *Snapshot { return s.proposed.Load() }
