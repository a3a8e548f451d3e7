package loop

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"skep/model"
	"skep/store"
)

const (
	// keysAtOnce bounds how long a step plans keys that need no write.
	keysAtOnce = 1024
	// rounds bounds how often a loop plans in one step what it made dirty itself.
	rounds = 4
)

// Config is what a Runner is made of. Store, NewID, Rand and Loops are needed.
type Config struct {
	Store *store.Store
	// Loops in the order in which a task passes them.
	Loops []Any
	NewID func() string
	Rand  *rand.Rand
	// Now is the clock of Run and of the metrics; time.Now if nil.
	Now func() time.Time
	// Budget is how many writes each loop may make in a step; 500 if zero.
	Budget int
	// InFlight is how many steps may wait to be committed at once; 4 if zero.
	InFlight int
	// Log may be nil.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Check, if set, is asked about every write of every loop, and what it has
	// against one is returned by Step. Tests hold loops to their own fields with it.
	Check func(loop string, c store.Change) error
}

// Runner carries loops over the store's proposed head, step by step.
type Runner struct {
	store    *store.Store
	env      Env
	now      func() time.Time
	log      *slog.Logger
	metrics  *Metrics
	check    func(string, store.Change) error
	most     int // the budget as configured
	inFlight int
	stop     func()
	ready    chan struct{}

	// Under the store's lock.
	machines []machine
	views    []store.View

	// Of the goroutine that steps.
	budget  int
	pending []*store.Pending
	effects []asked
}

// asked is an effect and the transaction that has to be committed first.
type asked struct {
	effect Effect
	after  *store.Pending
}

// NewRunner makes a runner, which follows the store from now until Close.
func NewRunner(cfg Config) *Runner {
	r := &Runner{
		store:    cfg.Store,
		env:      Env{NewID: cfg.NewID, Rand: cfg.Rand},
		now:      cfg.Now,
		log:      cfg.Log,
		metrics:  cfg.Metrics,
		check:    cfg.Check,
		most:     cfg.Budget,
		inFlight: cfg.InFlight,
		ready:    make(chan struct{}, 1),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.most <= 0 {
		r.most = 500
	}
	if r.inFlight <= 0 {
		r.inFlight = 4
	}
	r.budget = r.most
	for _, l := range cfg.Loops {
		m := l.machine()
		r.machines = append(r.machines, m)
		for _, v := range m.views() {
			if !slices.Contains(r.views, v) {
				r.views = append(r.views, v)
			}
		}
	}
	r.stop = cfg.Store.Observe(r)
	return r
}

// Close stops following the store.
func (r *Runner) Close() { r.stop() }

// Ready is readable when there may be something to plan.
func (r *Runner) Ready() <-chan struct{} { return r.ready }

// Settled returns a channel that is closed when a step can be taken again, if
// too many steps are in flight; otherwise nil.
func (r *Runner) Settled() <-chan struct{} {
	r.pending = slices.DeleteFunc(r.pending, done)
	if len(r.pending) < r.inFlight {
		return nil
	}
	return r.pending[0].Done()
}

func done(p *store.Pending) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// Changed implements store.Observer.
func (r *Runner) Changed(changes []store.Change) {
	for _, c := range changes {
		r.apply(c)
	}
	r.signal()
}

// Reset implements store.Observer.
func (r *Runner) Reset(s *store.Snapshot) {
	for _, v := range r.views {
		v.Build(s)
	}
	for _, m := range r.machines {
		m.reset(s)
	}
	r.signal()
}

func (r *Runner) apply(c store.Change) {
	for _, v := range r.views {
		v.Apply(c)
	}
	for _, m := range r.machines {
		m.changed(c)
	}
}

func (r *Runner) dirty() bool {
	return slices.ContainsFunc(r.machines, func(m machine) bool { return m.dirty() > 0 })
}

func (r *Runner) signal() {
	if !r.dirty() {
		return
	}
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

// Step lets every loop plan once, in order, as one transaction, and does not
// wait for it to be committed. It returns the next time at which a key is to be
// woken (zero if none) and whether keys are left that could be planned now. It
// plans nothing while too many steps are in flight.
//
// An error of kind Unavailable means that this manager does not lead. Other
// errors tell of writes that were left out, or of a step that was not taken.
func (r *Runner) Step(now time.Time) (next time.Time, busy bool, err error) {
	if r.Settled() != nil {
		return time.Time{}, true, nil
	}
	st := &step{r: r}
	p, err := r.store.Propose(func(tx *store.Tx) error {
		tx.Silent(r)
		st.tx = tx
		r.plan(st, now)
		next, busy = r.nextWake(), r.dirty()
		return nil
	})
	if err != nil {
		if model.KindOf(err) == model.Exhausted {
			r.budget = max(1, r.budget/8)
		}
		return time.Time{}, model.KindOf(err) != model.Unavailable, err
	}
	r.budget = min(r.most, 2*r.budget)
	if st.writes > 0 {
		r.pending = append(r.pending, p)
	}
	for _, e := range st.effects {
		r.effects = append(r.effects, asked{e, p})
	}
	return next, busy, st.err()
}

func (r *Runner) plan(st *step, now time.Time) {
	r.env.Now = now
	for _, m := range r.machines {
		m.wake(now)
		if m.dirty() == 0 || r.budget == 1 && st.writes > 0 { // one write may fill the step
			continue
		}
		begun, keys, writes := r.now(), 0, st.writes
		st.begin(m.name())
		for range rounds {
			if m.dirty() == 0 || keys >= keysAtOnce || st.full() {
				break
			}
			keys += m.plan(&r.env, st, keysAtOnce-keys)
		}
		r.metrics.planned(m.name(), keys, st.writes-writes, r.now().Sub(begun))
	}
}

func (r *Runner) nextWake() (next time.Time) {
	for _, m := range r.machines {
		if at, ok := m.next(); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// Effects returns what has been asked for since the last call. Run carries
// effects out by itself; who steps by hand does it with this.
func (r *Runner) Effects() []Effect {
	effects := make([]Effect, 0, len(r.effects))
	for _, a := range r.take() {
		effects = append(effects, a.effect)
	}
	return effects
}

func (r *Runner) take() []asked {
	taken := r.effects
	r.effects = nil
	return taken
}
