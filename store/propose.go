package store

import (
	"context"
	"fmt"
	"time"

	"skep/api"
	"skep/model"
)

// Pending is a transaction on its way through the log.
type Pending struct {
	data    []byte
	changes []Change
	head    *Snapshot // the state with this transaction
	version uint64
	taken   time.Time // if anybody measures
	err     error     // set before done is closed
	done    chan struct{}
}

// Done is closed when the outcome is known.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Wait returns nil when the transaction is committed and applied here, and
// otherwise why it is not. If ctx ends first, the outcome is unknown.
func (p *Pending) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		select {
		case <-p.done:
			return p.err
		default:
			return model.Errorf(model.Unknown, "outcome unknown: the write was not committed in time: %w", context.Cause(ctx))
		}
	}
}

func (p *Pending) end(err error) {
	p.err = err
	close(p.done)
}

// Update runs f on the proposed head, under a lock that f must not hold up, and
// returns when what it wrote is committed and applied. f may be run once only;
// an error that it returns undoes its writes and is returned as it is.
//
// A function that wrote nothing proposes nothing. Its result, like its error,
// is returned once all that it may have read is committed.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	defer s.metrics.wrote(s.metrics.started())
	if err := s.enter(ctx); err != nil {
		return err
	}
	p, after, err := s.take(f)
	switch {
	case p != nil:
		return p.Wait(ctx)
	case after != nil:
		if lost := after.Wait(ctx); lost != nil {
			if ctx.Err() != nil {
				return model.Errorf(model.Unavailable, "nothing was written: %w", context.Cause(ctx))
			}
			return model.Errorf(model.Unavailable, "nothing was written: the state that this was decided on was lost; try again")
		}
	}
	return err
}

// Propose is Update without waiting, neither for the outcome nor for room: the
// caller bounds how much it has in flight.
func (s *Store) Propose(f func(*Tx) error) (*Pending, error) {
	p, after, err := s.take(f)
	switch {
	case err != nil:
		return nil, err
	case p != nil:
		return p, nil
	case after != nil:
		return after, nil
	}
	p = &Pending{done: make(chan struct{})}
	p.end(nil)
	return p, nil
}

// enter waits until there is room in flight. The error of a log that is full comes at once:
// nobody knows when there will be space.
func (s *Store) enter(ctx context.Context) error {
	s.mu.Lock()
	if log, ok := s.log.(interface{ Full() error }); ok && s.leading {
		if err := log.Full(); err != nil {
			s.mu.Unlock()
			return fmt.Errorf("nothing was written: %w", err)
		}
	}
	if s.bytes < s.cfg.InFlightBytes && len(s.gate.waiting) == 0 {
		s.mu.Unlock()
		return nil
	}
	turn := s.gate.join()
	s.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.gate.leave(turn) {
			s.gate.open() // it was our turn: pass it on
		}
		return model.Errorf(model.Unavailable, "nothing was written: too much is in flight: %w", context.Cause(ctx))
	}
}

// take runs f and takes what it wrote into the flight. With nothing written it
// returns, if there is one, the transaction that f's reads depend on.
func (s *Store) take(f func(*Tx) error) (p, after *Pending, err error) {
	p, after, err = s.transact(f)
	if p != nil {
		s.hand()
	}
	return p, after, err
}

func (s *Store) transact(f func(*Tx) error) (p, after *Pending, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	started := s.metrics.started()
	defer s.metrics.unlocked(started)
	defer func() {
		if s.bytes < s.cfg.InFlightBytes {
			s.gate.open()
		}
	}()
	if !s.leading || s.log == nil {
		return nil, nil, model.Errorf(model.Unavailable, "nothing was written: this manager does not lead")
	}
	if n := len(s.flight); n > 0 {
		after = s.flight[n-1]
	}
	version := max(s.applied, s.given) + 1
	tx := newTx(s.proposed.Load(), s.cfg.Now(), version)
	ok := false
	defer func() {
		tx.ended = true
		if !ok {
			s.reset(tx.silent) // they may have seen writes that never were
		}
	}()
	if err := f(tx); err != nil {
		return nil, after, err
	}
	changes := fold(tx.writes)
	if len(changes) == 0 {
		ok = true
		return nil, after, nil
	}
	data, err := s.encoder.encodeEntry(s.requests+1, changes)
	if err != nil {
		return nil, after, err
	}
	ok = true
	s.requests++
	s.given = version
	tx.seal()
	tx.Snapshot.version = version
	p = &Pending{data: data, changes: changes, head: tx.Snapshot, version: version, taken: started, done: make(chan struct{})}
	s.flight = append(s.flight, p)
	s.bytes += len(data)
	s.proposed.Store(p.head)
	s.frozen.took(changes)
	s.tell(changes, tx.silent)
	return p, after, nil
}

// hand gives the log what it has not been given. Whoever comes while another
// one is at it leaves its entry to that one, which is how entries gather.
func (s *Store) hand() {
	s.mu.Lock()
	busy := s.giver
	s.giver = true
	s.mu.Unlock()
	if busy {
		return
	}
	for s.give() {
	}
}

// give hands over once. It reports false when there is nothing.
func (s *Store) give() bool {
	s.handing <- struct{}{}
	defer func() { <-s.handing }()
	log, data := s.gathered()
	if len(data) == 0 {
		return false
	}
	log.Propose(data)
	return true
}

func (s *Store) gathered() (Log, [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handed == len(s.flight) || !s.leading {
		s.giver = false
		return nil, nil
	}
	data := make([][]byte, 0, len(s.flight)-s.handed)
	for _, p := range s.flight[s.handed:] {
		data = append(data, p.data)
	}
	s.handed = len(s.flight)
	return s.log, data
}

// Edit changes one object in a transaction of its own: f gets a shallow copy,
// in which it replaces what it changes. A version other than nil must be that of
// the stored object, otherwise the error is of kind Conflict. It returns the
// object as stored.
func Edit[T Object](ctx context.Context, s *Store, id string, version *api.Version, f func(T) error) (T, error) {
	var stored T
	err := s.Update(ctx, func(tx *Tx) error {
		old, ok := Get[T](tx.Snapshot, id)
		if !ok {
			return notFound(KindOf(stored), id)
		}
		if version != nil && version.Index != old.GetMeta().GetVersion().GetIndex() {
			return errOutOfSequence(KindOf(stored), id)
		}
		next := model.Shallow(old)
		if err := f(next); err != nil {
			return err
		}
		if err := tx.Update(next); err != nil {
			return err
		}
		stored, _ = Get[T](tx.Snapshot, id)
		return nil
	})
	if err != nil {
		var none T
		return none, err
	}
	return stored, nil
}
