package loop

import (
	"time"

	"skep/store"
)

// Plan takes what a loop decides.
type Plan[K comparable] struct {
	step  *step
	m     *keyed[K]
	again []K
}

// Create adds an object, which belongs to the store from then on.
func (p *Plan[K]) Create(o store.Object) { p.step.create(o) }

// Update writes a changed copy of an object that was read from the snapshot.
func (p *Plan[K]) Update(o store.Object) { p.step.update(o) }

// Delete removes an object.
func (p *Plan[K]) Delete(o store.Object) { p.step.remove(o) }

// Full reports whether the loop has used up what it may write in this step. A
// plan that finds it full hands what it has not done to Again.
func (p *Plan[K]) Full() bool { return p.step.full() }

// Left returns how many writes the loop may still make in this step.
func (p *Plan[K]) Left() int {
	if p.step.full() {
		return 0
	}
	return p.step.left
}

// Again makes keys dirty, behind those that are dirty already. After a call in
// which a write was left out that takes some seconds, as the same would happen
// again.
func (p *Plan[K]) Again(keys ...K) { p.again = append(p.again, keys...) }

// WakeAt makes a key dirty at a time, unless it is planned before. What counts is
// how far away that is now: the key does not wait for a clock that is set back.
func (p *Plan[K]) WakeAt(k K, at time.Time) {
	now := p.step.r.env.Now
	p.m.wakes.set(k, now.Add(at.Sub(now))) // on the monotonic clock, if now is
}

// Effect asks for something to be done once this step is committed.
func (p *Plan[K]) Effect(e Effect) { p.step.effects = append(p.step.effects, e) }
