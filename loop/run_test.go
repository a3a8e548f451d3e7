package loop_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"skep/loop"
	"skep/store"
)

// run runs r in the test's bubble until the test ends.
func run(t *testing.T, r *loop.Runner) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestRunPlansAtOnceAndInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var planned []time.Duration
		s := store.NewLocal(store.Config{})
		r := runner(s, 0, copier(func(env *loop.Env, _ *store.Snapshot, key string, out *loop.Plan[string]) {
			planned = append(planned, env.Now.Sub(start))
			if len(planned) == 1 {
				out.WakeAt(key, env.Now.Add(5*time.Second))
			}
		}))
		run(t, r)
		synctest.Wait()
		time.Sleep(time.Second) // in the bubble: nothing happens meanwhile
		addConfigs(t, s, 1)
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []time.Duration{time.Second, 6 * time.Second}; !slices.Equal(planned, want) {
			t.Errorf("planned after %v, want %v", planned, want)
		}
	})
}

func TestRunWaitsForStepsInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &heldLog{}
		s := store.New(store.Config{Log: log})
		s.Lead(1)
		addConfigs(t, s, 10)
		log.commit(t, s)
		r := runner(s, 1, copier(copyOnce))
		run(t, r)
		for _, want := range []int{4, 8, 10} {
			synctest.Wait()
			if got := s.Proposed().Secrets.Len(); got != want {
				t.Errorf("%d secrets are proposed, want %d", got, want)
			}
			log.commit(t, s)
		}
	})
}

// deed is an effect that tells when it is done.
type deed struct {
	key string
	do  func(context.Context) error
}

func (d deed) Key() string { return d.key }

func (d deed) Do(ctx context.Context, _ *store.Store) error { return d.do(ctx) }

func TestAnEffectIsDoneAfterItsStepAndTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &heldLog{}
		s := store.New(store.Config{Log: log})
		s.Lead(1)
		start := time.Now()
		var done []time.Duration
		do := func(context.Context) error {
			done = append(done, time.Since(start))
			if len(done) < 4 {
				return errors.New("not yet")
			}
			return nil
		}
		r := runner(s, 0, copier(func(env *loop.Env, s *store.Snapshot, key string, out *loop.Plan[string]) {
			copyOnce(env, s, key, out)
			out.Effect(deed{key, do})
		}))
		addConfigs(t, s, 1)
		run(t, r)
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("an effect was carried out before its step was committed")
		}
		log.commit(t, s)
		log.commit(t, s)
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, 700 * time.Millisecond}
		if !slices.Equal(done, want) {
			t.Errorf("tried after %v, want %v", done, want)
		}
	})
}

func TestEffectsOfOneKeyFollowEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewLocal(store.Config{})
		atWork, most, done := 0, 0, 0
		do := func(context.Context) error {
			atWork++
			most = max(most, atWork)
			time.Sleep(time.Second)
			atWork--
			done++
			return nil
		}
		r := runner(s, 0, copier(func(_ *loop.Env, _ *store.Snapshot, _ string, out *loop.Plan[string]) {
			out.Effect(deed{"all", do})
		}))
		run(t, r)
		addConfigs(t, s, 1)
		synctest.Wait()
		addConfigs(t, s, 3)
		time.Sleep(time.Minute)
		synctest.Wait()
		if most != 1 || done != 2 {
			t.Errorf("%d at once and %d in all, want 1 and 2: what was asked for meanwhile is done once", most, done)
		}
	})
}

func TestRunEndsWithItsEffects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewLocal(store.Config{})
		ended := false
		r := runner(s, 0, copier(func(_ *loop.Env, _ *store.Snapshot, key string, out *loop.Plan[string]) {
			out.Effect(deed{key, func(ctx context.Context) error {
				<-ctx.Done()
				ended = true
				return ctx.Err()
			}})
		}))
		addConfigs(t, s, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Run(ctx); err != nil || !ended {
			t.Errorf("run returned %v, effect ended: %v", err, ended)
		}
	})
}
