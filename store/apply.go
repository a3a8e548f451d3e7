package store

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"skep/api"
	"skep/model"
)

// Entry is a committed entry of the log.
type Entry struct {
	Index, Term uint64
	Data        []byte
}

// Apply carries out committed entries. An error is fatal: this manager's state
// would no longer be what the others have.
//
// Entries that come together become visible some at a time. It decodes on several
// goroutines what comes from others and is worth it, as it is after a start.
func (s *Store) Apply(entries ...Entry) error {
	if !s.proposes() {
		return s.applyMany(entries)
	}
	var room scratch
	for i := range entries {
		if e := &entries[i]; s.applyOwn(e.Index, e.Data) {
			continue
		}
		if err := s.applyAll(room.decodeEntries(entries[i : i+1])); err != nil {
			return err
		}
	}
	return nil
}

// proposes reports whether entries may be this manager's own, and known.
func (s *Store) proposes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading || len(s.flight) > 0
}

// applyBytes is how much of the log is decoded, and becomes visible, at a time.
const applyBytes = 128 << 10

// applyMany applies entries of others.
func (s *Store) applyMany(entries []Entry) error {
	var all [][]Entry
	for size, from, i := 0, 0, 0; i < len(entries); i++ {
		if size += len(entries[i].Data); size >= applyBytes || i == len(entries)-1 {
			all = append(all, entries[from:i+1])
			size, from = 0, i+1
		}
	}
	decode := func(some []Entry) batch { return new(scratch).decodeEntries(some) }
	if len(all) == 1 {
		return s.applyAll(decode(all[0]))
	}
	for b := range ahead(slices.Values(all), decode) {
		if err := s.applyAll(b); err != nil {
			return err
		}
	}
	return nil
}

// batch is entries that become visible together, and what they say.
type batch struct {
	entries []Entry
	actions [][]decoded
	err     error
}

func (d *scratch) decodeEntries(entries []Entry) batch {
	b := batch{entries: entries, actions: make([][]decoded, len(entries))}
	for i, e := range entries {
		if b.actions[i], b.err = d.decodeEntry(e.Data); b.err != nil {
			b.err = entryError(e, b.err)
			break
		}
	}
	return b
}

func entryError(e Entry, err error) error {
	return fmt.Errorf("apply entry %d of term %d: %w", e.Index, e.Term, err)
}

// applyAll applies the entries of a batch, or none.
func (s *Store) applyAll(b batch) error {
	if b.err != nil {
		return b.err
	}
	for i := range b.actions {
		for n := range b.actions[i] {
			if err := s.decoder.complete(&b.actions[i][n]); err != nil {
				return entryError(b.entries[i], fmt.Errorf("action %d: %w", n+1, err))
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.committed.Load().begin()
	commits := make([]Commit, len(b.entries))
	for i, e := range b.entries {
		commits[i] = Commit{Index: e.Index, Changes: next.perform(b.actions[i])}
		s.frozen.took(commits[i].Changes)
		if commits[i].Version = versionOf(commits[i].Changes); commits[i].Version == 0 {
			commits[i].Version = e.Index
		}
		next.version = max(next.version, commits[i].Version)
	}
	next.seal()
	for i, e := range b.entries {
		s.commit(next, commits[i], len(e.Data))
		s.rescue(e.Term, e.Data)
	}
	if len(s.flight) > 0 {
		s.rebase()
		return nil
	}
	s.proposed.Store(next)
	for _, c := range commits {
		s.tell(c.Changes, nil)
	}
	return nil
}

// perform carries out the actions of an entry and returns what this changed.
func (s *Snapshot) perform(actions []decoded) []Change {
	changes := make([]Change, 0, len(actions))
	for _, a := range actions {
		write := Change{Kind: a.kind, Old: a.object}
		if a.action != api.StoreActionKind_STORE_ACTION_REMOVE {
			s.share(s.table(a.kind).get(a.object.GetId()), a)
			write = Change{Kind: a.kind, New: a.object}
		}
		changes = s.carryOut(changes, write)
	}
	return changes
}

// applyOwn commits the first transaction in flight if data is its entry: the
// committed head moves to the state that the transaction has led to, without
// decoding anything. Entries come in the order in which they were proposed; one
// that does not is applied like anybody else's.
func (s *Store) applyOwn(index uint64, data []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.flight[:s.handed], func(p *Pending) bool { return sameEntry(p.data, data) })
	if i < 0 {
		return false
	}
	p := s.flight[i]
	if i > 0 {
		next := s.committed.Load().begin()
		p.changes = next.carryOut(nil, p.changes...)
		next.seal()
		next.version = p.version
		p.head = next
	}
	copy(s.flight[1:], s.flight[:i])
	s.flight[0] = nil
	s.flight = s.flight[1:]
	s.handed--
	s.land(p)
	s.metrics.logged(p.taken)
	s.commit(p.head, Commit{Version: p.version, Index: index, Changes: p.changes}, len(data))
	if i > 0 {
		s.rebase()
	}
	p.end(nil)
	return true
}

// sameEntry compares by bytes and not by request ID alone: an ID that another
// manager happens to have used must not pass for ours.
func sameEntry(a, b []byte) bool {
	return len(a) == len(b) && (&a[0] == &b[0] || bytes.Equal(a, b))
}

// Applied tells that everything up to index is applied, also what is not for
// the store, and the term of the last of it.
func (s *Store) Applied(index, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if term > s.ledIn {
		s.strand(model.Unavailable, "nothing was written: leadership was lost; try again")
	}
	s.reached(index)
	s.feed.reached(index)
}

// commit makes next the committed head.
func (s *Store) commit(next *Snapshot, c Commit, size int) {
	s.committed.Store(next)
	s.reached(c.Index)
	s.metrics.committed(c.Changes)
	s.feed.publish(c, size)
}

// land takes p out of the account of what is in flight.
func (s *Store) land(p *Pending) {
	s.bytes -= len(p.data)
	if s.bytes < s.cfg.InFlightBytes {
		s.gate.open()
	}
}

// Refused tells that the log will never commit these entries. What was taken
// after the first of them and not handed over is dropped with it. What was
// handed over is in the log's hands: it stays, on a head without the refused.
func (s *Store) Refused(data [][]byte) {
	s.handing <- struct{}{}
	defer func() { <-s.handing }()
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := func(p *Pending) bool {
		return slices.ContainsFunc(data, func(d []byte) bool { return sameEntry(p.data, d) })
	}
	s.stranded = slices.DeleteFunc(s.stranded, func(p *Pending) bool {
		if !refused(p) {
			return false
		}
		p.end(model.Errorf(model.Unavailable, "nothing was written: the log did not take it; try again"))
		return true
	})
	first := slices.IndexFunc(s.flight[:s.handed], refused)
	if first < 0 {
		return
	}
	kept := slices.Clone(s.flight[:first])
	var dropped []*Pending
	for i, p := range s.flight[first:] {
		if first+i < s.handed && !refused(p) {
			kept = append(kept, p)
		} else {
			dropped = append(dropped, p)
		}
	}
	s.flight, s.handed = kept, len(kept)
	s.cfg.Logger.Warn("the log refused entries", "refused", len(data), "dropped", len(dropped))
	s.rebase()
	for _, p := range dropped {
		s.land(p)
		p.end(model.Errorf(model.Unavailable, "nothing was written: the log did not take it; try again"))
	}
}

// rebase makes the proposed head anew: the committed one and, in order, the
// writes that are still in flight. They are unconditional, so this is what
// every manager will have when they are committed.
func (s *Store) rebase() {
	head := s.committed.Load()
	s.given = head.version
	for _, p := range s.flight {
		head = head.begin()
		p.changes = head.carryOut(nil, p.changes...)
		head.seal()
		head.version = p.version
		p.head = head
		s.given = max(s.given, p.version)
	}
	s.proposed.Store(head)
	s.resetAll()
}

// Lead tells that this manager leads, from the given term on, and has applied
// all that was in the log when it was elected.
func (s *Store) Lead(term uint64) {
	s.handing <- struct{}{}
	defer func() { <-s.handing }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	s.leading, s.ledIn = true, term
	s.requests = term << 40 // a term has one leader, so no two entries have the same ID
	s.cfg.Logger.Info("the store leads", "raft.term", term, "raft.index", s.applied)
	s.rebase()
}

// Follow tells that this manager no longer leads. What the log has been given may still be
// committed by the next leader: who waits for it is told when this manager has applied as much.
func (s *Store) Follow() {
	if !s.stepDown() {
		return
	}
	s.handing <- struct{}{}
	defer func() { <-s.handing }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Logger.Info("the store follows", "raft.index", s.applied, "in flight", len(s.flight))
	handed := s.flight[:s.handed:s.handed]
	s.flight, s.handed = s.flight[s.handed:], 0
	s.drop()
	s.stranded = handed
	s.rebase()
	if term := s.ledIn; len(handed) > 0 {
		s.giveUp = time.AfterFunc(strandedLimit, func() { s.abandon(term) })
	}
}

// abandon ends the waiting for what was in the log when leadership was lost in term.
func (s *Store) abandon(term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if term == s.ledIn {
		s.strand(model.Unknown, lostInFlight)
	}
}

// End tells that nothing more will be applied, so that nobody waits for it.
func (s *Store) End() {
	s.Follow()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strand(model.Unknown, lostInFlight)
}

// strandedLimit is how long the next leader is waited for: much longer than an election takes.
const strandedLimit = 4 * time.Second

const lostInFlight = "outcome unknown: leadership was lost while the write was under way; read and try again"

// strand ends what was in the log when leadership was lost.
func (s *Store) strand(kind model.Kind, text string) {
	if s.giveUp != nil {
		s.giveUp.Stop()
	}
	for _, p := range s.stranded {
		p.end(model.Errorf(kind, "%s", text))
	}
	s.stranded = nil
}

// rescue ends a transaction well that the next leader had, and has committed. Entries of a term
// are committed in order and before any of a later one: see [Store.Applied] for the rest.
func (s *Store) rescue(term uint64, data []byte) {
	if len(s.stranded) == 0 || term != s.ledIn {
		return
	}
	if i := slices.IndexFunc(s.stranded, func(p *Pending) bool { return sameEntry(p.data, data) }); i >= 0 {
		s.stranded[i].end(nil)
		s.stranded = slices.Delete(s.stranded, i, i+1)
	}
}

// stepDown lets nothing more be taken or handed over.
func (s *Store) stepDown() (led bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	led, s.leading = s.leading, false
	return led
}

// drop fails all that is in flight or stranded.
func (s *Store) drop() {
	s.strand(model.Unknown, lostInFlight)
	flight, handed := s.flight, s.handed
	s.flight, s.handed, s.bytes = nil, 0, 0
	for i, p := range flight {
		if i < handed {
			p.end(model.Errorf(model.Unknown, lostInFlight))
		} else {
			p.end(model.Errorf(model.Unavailable, "nothing was written: leadership was lost; try again"))
		}
	}
	s.gate.open()
}

// carryOut does writes unconditionally, whatever is there, and appends the
// changes that this made.
func (s *Snapshot) carryOut(changes []Change, writes ...Change) []Change {
	for _, w := range writes {
		old := s.table(w.Kind).get(w.ID())
		if old == nil && w.New == nil {
			continue
		}
		s.replace(w.Kind, old, w.New)
		changes = append(changes, Change{w.Kind, old, w.New})
	}
	return changes
}

// versionOf returns the highest version that written objects carry, or zero.
func versionOf(changes []Change) (v uint64) {
	for _, c := range changes {
		if c.New != nil {
			v = max(v, c.New.GetMeta().GetVersion().GetIndex())
		}
	}
	return v
}
