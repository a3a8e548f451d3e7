package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"skep/api"
	"skep/model"
	"skep/store"
)

// fullLog is a log whose disk may be full.
type fullLog struct {
	heldLog
	full atomic.Pointer[error]
}

func (l *fullLog) Full() error {
	if err := l.full.Load(); err != nil {
		return *err
	}
	return nil
}

func TestWhileTheLogIsFullAnUpdateIsRefusedAtOnceAndReadsGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &fullLog{}
		s := store.New(store.Config{Log: l})
		s.Lead(1)
		create := func(id string) func(*store.Tx) error {
			return func(tx *store.Tx) error { return tx.Create(&api.Secret{Id: id}) }
		}
		before, err := s.Propose(create("before"))
		must(t, err)

		full := model.Errorf(model.Unavailable, "the disk is full")
		l.full.Store(&full)
		if err := s.Update(t.Context(), create("refused")); !errors.Is(err, full) || model.KindOf(err) != model.Unavailable {
			t.Errorf("got %v, want that the disk is full", err)
		}
		if n := l.len(); n != 1 {
			t.Errorf("the log was given %d entries, want the one from before", n)
		}
		if n := s.Read().Secrets.Len(); n != 0 {
			t.Errorf("%d secrets are there before any is committed", n)
		}

		l.full.Store(nil)
		l.commit(t, s, 1)
		must(t, before.Wait(t.Context()))
		after := make(chan error, 1)
		go func() { after <- s.Update(t.Context(), create("after")) }()
		synctest.Wait()
		l.commit(t, s, 1)
		must(t, <-after)
		if n := s.Read().Secrets.Len(); n != 2 {
			t.Errorf("%d secrets are there, want 2", n)
		}
	})
}
