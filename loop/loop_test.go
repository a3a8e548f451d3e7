package loop_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// copier keeps a secret for every config: a loop as small as they get.
func copier(plan func(env *loop.Env, s *store.Snapshot, key string, out *loop.Plan[string])) loop.Loop[string] {
	return loop.Loop[string]{
		Name: "copier",
		Keys: func(c store.Change, dirty func(string)) {
			if c.Kind == store.KindConfig {
				dirty(c.ID())
			}
		},
		All: func(s *store.Snapshot, dirty func(string)) {
			for c := range s.Configs.All() {
				dirty(c.GetId())
			}
		},
		Plan: func(env *loop.Env, s *store.Snapshot, keys []string, out *loop.Plan[string]) {
			for i, k := range keys {
				if out.Full() {
					out.Again(keys[i:]...)
					return
				}
				plan(env, s, k, out)
			}
		},
	}
}

func copyOnce(_ *loop.Env, s *store.Snapshot, key string, out *loop.Plan[string]) {
	_, wanted := s.Configs.Get(key)
	secret, exists := s.Secrets.Get(key)
	switch {
	case wanted && !exists:
		out.Create(&api.Secret{Id: key, Spec: &api.SecretSpec{Annotations: &api.Annotations{Name: key}}})
	case exists && !wanted:
		out.Delete(secret)
	}
}

// marker turns every secret internal, after whoever made it.
func marker() loop.Loop[string] {
	return loop.Loop[string]{
		Name: "marker",
		Keys: func(c store.Change, dirty func(string)) {
			if c.Kind == store.KindSecret && c.New != nil {
				dirty(c.ID())
			}
		},
		All: func(*store.Snapshot, func(string)) {},
		Plan: func(_ *loop.Env, s *store.Snapshot, keys []string, out *loop.Plan[string]) {
			for _, k := range keys {
				if secret, ok := s.Secrets.Get(k); ok && !secret.GetInternal() {
					secret = model.Shallow(secret)
					secret.Internal = true
					out.Update(secret)
				}
			}
		},
	}
}

// counted counts secrets.
type counted struct{ secrets int }

func (v *counted) Build(s *store.Snapshot) { v.secrets = s.Secrets.Len() }

func (v *counted) Apply(c store.Change) {
	if c.Kind != store.KindSecret {
		return
	}
	if c.Old != nil {
		v.secrets--
	}
	if c.New != nil {
		v.secrets++
	}
}

var _ store.View = (*counted)(nil)

func runner(s *store.Store, budget int, loops ...loop.Any) *loop.Runner {
	return loop.NewRunner(loop.Config{
		Store: s, Loops: loops, Budget: budget,
		NewID: func() string { return "id" },
		Rand:  rand.New(rand.NewPCG(1, 1)),
	})
}

func config(id string) *api.Config {
	return &api.Config{Id: id, Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: id}}}
}

func addConfigs(t *testing.T, s *store.Store, n int) {
	t.Helper()
	if _, err := s.Propose(func(tx *store.Tx) error {
		for range n {
			if err := tx.Create(config(fmt.Sprintf("c%04d", tx.Configs.Len()))); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func step(t *testing.T, r *loop.Runner, now time.Time) (next time.Time, busy bool) {
	t.Helper()
	next, busy, err := r.Step(now)
	if err != nil {
		t.Fatalf("step: %v", err)
	}
	return next, busy
}

func TestOneStepTakesAnObjectThroughAllLoopsInOneWrite(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{Freeze: true})
	view := &counted{}
	first := copier(copyOnce)
	first.Views = []store.View{view}
	second := marker()
	second.Views = []store.View{view}
	r := runner(s, 0, first, second)
	defer r.Close()
	_, sub := s.Subscribe(10, store.KindKey(store.KindSecret))
	defer sub.Close()
	addConfigs(t, s, 1)
	step(t, r, time.Time{})
	commits, _ := sub.Take()
	if len(commits) != 1 || len(commits[0].Changes) != 1 {
		t.Fatalf("got commits %v, want one with one change", commits)
	}
	if secret := commits[0].Changes[0].New.(*api.Secret); !secret.GetInternal() {
		t.Errorf("the second loop did not see what the first one wrote: %v", secret)
	}
	if view.secrets != 1 {
		t.Errorf("a view that two loops share counts %d, want 1", view.secrets)
	}
}

func TestAStepIsBoundedAndTheRestFollows(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	r := runner(s, 10, copier(copyOnce))
	defer r.Close()
	addConfigs(t, s, 25)
	var sizes []int
	for {
		before := s.Read().Secrets.Len()
		_, busy := step(t, r, time.Time{})
		sizes = append(sizes, s.Read().Secrets.Len()-before)
		if !busy {
			break
		}
	}
	if !slices.Equal(sizes, []int{10, 10, 5}) {
		t.Errorf("the steps wrote %v, want 10, 10 and 5", sizes)
	}
}

func TestAKeyIsWokenAtItsTimeUnlessItIsPlannedBefore(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	var planned []time.Time
	s := store.NewLocal(store.Config{})
	r := runner(s, 0, copier(func(env *loop.Env, _ *store.Snapshot, key string, out *loop.Plan[string]) {
		planned = append(planned, env.Now)
		if len(planned) < 3 {
			out.WakeAt(key, start.Add(time.Minute))
			out.WakeAt(key, start.Add(time.Second*time.Duration(len(planned))))
		}
	}))
	defer r.Close()
	addConfigs(t, s, 1)
	next, _ := step(t, r, start)
	if want := start.Add(time.Second); !next.Equal(want) {
		t.Fatalf("next is %v, want %v: the time that was asked for last", next, want)
	}
	if next, _ = step(t, r, start.Add(time.Millisecond)); len(planned) != 1 || next.IsZero() {
		t.Fatalf("planned %v before its time", planned)
	}
	if next, _ = step(t, r, start.Add(time.Second)); !next.Equal(start.Add(2 * time.Second)) {
		t.Fatalf("next is %v, want 2 s after the start", next)
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		c, _ := tx.Configs.Get("c0000")
		return tx.Delete(c)
	}); err != nil {
		t.Fatal(err)
	}
	if next, _ = step(t, r, start.Add(1500*time.Millisecond)); !next.IsZero() || len(planned) != 3 {
		t.Errorf("planned %v and next is %v, want three plans and no time left", planned, next)
	}
}

func TestAWakeKeepsToTheMonotonicClock(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	now := time.Now()
	stored := now.Add(time.Minute).Round(0) // the store keeps wall time only
	r := runner(s, 0, copier(func(_ *loop.Env, _ *store.Snapshot, key string, out *loop.Plan[string]) { out.WakeAt(key, stored) }))
	addConfigs(t, s, 1)
	next, _ := step(t, r, now)
	if !next.Equal(stored) || !strings.Contains(next.String(), " m=") {
		t.Errorf("the next wake is at %v, want %v with a monotonic reading", next, stored)
	}
}

func TestEverythingIsDirtyWhenTheProposedHeadIsLost(t *testing.T) {
	t.Parallel()
	log := &heldLog{}
	s := store.New(store.Config{Log: log})
	s.Lead(1)
	view := &counted{}
	l := copier(copyOnce)
	l.Views = []store.View{view}
	r := runner(s, 0, l)
	defer r.Close()
	addConfigs(t, s, 3)
	log.commit(t, s)
	step(t, r, time.Time{})
	if view.secrets != 3 {
		t.Fatalf("the view counts %d secrets that are proposed, want 3", view.secrets)
	}
	s.Follow()
	if view.secrets != 0 {
		t.Fatalf("the view counts %d secrets that were lost, want 0", view.secrets)
	}
	if _, _, err := r.Step(time.Time{}); model.KindOf(err) != model.Unavailable {
		t.Fatalf("a step without leading: got error %v, want kind Unavailable", err)
	}
	log.data = nil
	s.Lead(2)
	select {
	case <-r.Ready():
	default:
		t.Error("the runner is not ready when leadership begins")
	}
	step(t, r, time.Time{})
	if view.secrets != 3 {
		t.Errorf("after leading again the view counts %d, want 3", view.secrets)
	}
}

func TestStepsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	log := &heldLog{}
	s := store.New(store.Config{Log: log})
	s.Lead(1)
	r := runner(s, 1, copier(copyOnce))
	defer r.Close()
	addConfigs(t, s, 10)
	log.commit(t, s)
	for i := range 4 {
		if r.Settled() != nil {
			t.Fatalf("%d steps in flight are too many, want up to 4", i)
		}
		step(t, r, time.Time{})
	}
	settled := r.Settled()
	if settled == nil {
		t.Fatal("a fifth step may be taken")
	}
	if _, busy := step(t, r, time.Time{}); !busy || s.Proposed().Secrets.Len() != 4 {
		t.Fatalf("busy is %v with %d written, want true with 4", busy, s.Proposed().Secrets.Len())
	}
	log.commit(t, s)
	<-settled
	step(t, r, time.Time{})
	if got := s.Proposed().Secrets.Len(); got != 5 {
		t.Errorf("%d are written after the commit, want 5", got)
	}
}

func TestAWriteThatCannotBeIsLeftOutAlone(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	r := runner(s, 0, copier(func(_ *loop.Env, _ *store.Snapshot, key string, out *loop.Plan[string]) {
		spec := &api.SecretSpec{Annotations: &api.Annotations{Name: key}}
		if key == "c0001" {
			spec.Data = make([]byte, 2<<20)
		}
		out.Create(&api.Secret{Id: key, Spec: spec})
		if key == "c0002" {
			out.Create(&api.Secret{Id: key, Spec: spec})
		}
	}))
	defer r.Close()
	addConfigs(t, s, 4)
	_, _, err := r.Step(time.Time{})
	if err == nil || !strings.Contains(err.Error(), "copier: create secret c0001") || !strings.Contains(err.Error(), "c0002 already exists") {
		t.Errorf("got error %v, want one about c0001 and c0002", err)
	}
	if got := s.Read().Secrets.Len(); got != 3 {
		t.Errorf("%d secrets were written, want the other 3", got)
	}
}

func TestABigStepIsCutByBytes(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	r := runner(s, 0, copier(func(_ *loop.Env, _ *store.Snapshot, key string, out *loop.Plan[string]) {
		out.Create(&api.Secret{Id: key, Spec: &api.SecretSpec{Annotations: &api.Annotations{Name: key}, Data: make([]byte, 400<<10)}})
	}))
	defer r.Close()
	addConfigs(t, s, 20)
	for range 20 {
		if _, busy := step(t, r, time.Time{}); !busy {
			break
		}
	}
	if got := s.Read().Secrets.Len(); got != 20 {
		t.Errorf("%d secrets were written, want 20", got)
	}
}

func TestAnObjectThatOutgrowsTheLogHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	grow := copier(func(_ *loop.Env, s *store.Snapshot, key string, out *loop.Plan[string]) {
		if c, ok := s.Configs.Get(key); ok && key == "c0001" && len(c.GetSpec().GetData()) == 0 {
			c = model.Shallow(c)
			c.Spec = model.Shallow(c.GetSpec())
			c.Spec.Data = make([]byte, 2<<20)
			out.Update(c)
		}
	})
	addConfigs(t, s, 3)
	r := runner(s, 0, grow, copier(copyOnce))
	_, busy, err := r.Step(time.Now())
	if err == nil || !strings.Contains(err.Error(), "c0001") || busy {
		t.Errorf("busy %v, err %v; want an error about c0001, and nothing left", busy, err)
	}
	if got := s.Proposed().Secrets.Len(); got != 3 {
		t.Errorf("the other loop wrote %d of 3 secrets", got)
	}
}

// Each write fits, together they do not.
func TestLargeObjectsOfSeveralLoopsGoOneByOne(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	large := func(kind string) loop.Loop[string] {
		l := copier(func(_ *loop.Env, s *store.Snapshot, key string, out *loop.Plan[string]) {
			if _, exists := s.Secrets.Get(kind + key); !exists {
				out.Create(&api.Secret{Id: kind + key, Spec: &api.SecretSpec{Annotations: &api.Annotations{Name: kind + key}, Data: make([]byte, 1<<20)}})
			}
		})
		l.Name = kind
		return l
	}
	addConfigs(t, s, 2)
	r := runner(s, 0, large("a"), large("b"))
	busy := true
	for n := 0; busy; n++ {
		if n > 50 {
			t.Fatal("the steps make no progress")
		}
		if _, again, err := r.Step(time.Now()); err == nil {
			busy = again
		} else if model.KindOf(err) != model.Exhausted {
			t.Fatal(err)
		}
	}
	if got := s.Proposed().Secrets.Len(); got != 4 {
		t.Errorf("%d of 4 secrets", got)
	}
}

func TestACheckSeesEveryWriteWithItsWriter(t *testing.T) {
	t.Parallel()
	s := store.NewLocal(store.Config{})
	var seen []string
	r := loop.NewRunner(loop.Config{
		Store: s, Loops: []loop.Any{copier(copyOnce), marker()},
		Check: func(writer string, c store.Change) error {
			seen = append(seen, writer+" "+c.ID())
			if writer == "marker" {
				return errors.New("not its own")
			}
			return nil
		},
	})
	defer r.Close()
	addConfigs(t, s, 1)
	if _, _, err := r.Step(time.Time{}); err == nil || !strings.Contains(err.Error(), "not its own") {
		t.Errorf("got error %v, want what the check said", err)
	}
	if want := []string{"copier c0000", "marker c0000"}; !slices.Equal(seen, want) {
		t.Errorf("the check saw %v, want %v", seen, want)
	}
}

// heldLog keeps entries until it is told to commit them.
type heldLog struct {
	data  [][]byte
	index uint64
}

func (l *heldLog) Propose(data [][]byte) { l.data = append(l.data, data...) }

func (l *heldLog) commit(t *testing.T, s *store.Store) {
	t.Helper()
	data := l.data
	l.data = nil
	for _, d := range data {
		l.index = max(l.index, s.Read().Version()) + 1
		if err := s.Apply(store.Entry{Index: l.index, Term: 1, Data: d}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPlanOfWhichAWriteWasLeftOutGoesOnLater(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	s := store.NewLocal(store.Config{})
	plans := 0
	r := runner(s, 0, copier(func(_ *loop.Env, _ *store.Snapshot, key string, out *loop.Plan[string]) {
		plans++
		out.Create(&api.Secret{Id: key, Spec: &api.SecretSpec{Data: make([]byte, 2<<20)}})
		out.Again(key)
	}))
	defer r.Close()
	addConfigs(t, s, 1)
	next, busy, err := r.Step(start)
	if err == nil || busy || plans != 1 {
		t.Errorf("error %v, busy %v after %d plans, want an error, and false after 1", err, busy, plans)
	}
	if want := start.Add(5 * time.Second); !next.Equal(want) {
		t.Errorf("next is %v, want %v", next, want)
	}
}

func TestMetricsCountWhatLoopsDo(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	metrics, err := loop.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	s := store.NewLocal(store.Config{})
	r := loop.NewRunner(loop.Config{Store: s, Loops: []loop.Any{copier(copyOnce), marker()}, Metrics: metrics})
	defer r.Close()
	addConfigs(t, s, 3)
	step(t, r, time.Time{})
	want := `
		# HELP skep_loop_keys_total Keys that the loop planned.
		# TYPE skep_loop_keys_total counter
		skep_loop_keys_total{loop="copier"} 3
		skep_loop_keys_total{loop="marker"} 6
		# HELP skep_loop_writes_total Writes that the loop made.
		# TYPE skep_loop_writes_total counter
		skep_loop_writes_total{loop="copier"} 3
		skep_loop_writes_total{loop="marker"} 3
	`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "skep_loop_keys_total", "skep_loop_writes_total"); err != nil {
		t.Error(err)
	}
}
