package loop

import (
	"container/heap"
	"time"
)

// wakes is a heap of keys by the time at which each is to be woken; a key has one.
type wakes[K comparable] struct {
	heap  wakeHeap[K]
	byKey map[K]*wake[K]
}

type wake[K comparable] struct {
	key K
	at  time.Time
	pos int
}

// set gives k its time, in place of the one it may have.
func (w *wakes[K]) set(k K, at time.Time) {
	if e, ok := w.byKey[k]; ok {
		e.at = at
		heap.Fix(&w.heap, e.pos)
		return
	}
	if w.byKey == nil {
		w.byKey = map[K]*wake[K]{}
	}
	e := &wake[K]{key: k, at: at}
	w.byKey[k] = e
	heap.Push(&w.heap, e)
}

// drop forgets the time of k.
func (w *wakes[K]) drop(k K) {
	if e, ok := w.byKey[k]; ok {
		heap.Remove(&w.heap, e.pos)
		delete(w.byKey, k)
	}
}

// due takes out a key whose time has come, the earliest first.
func (w *wakes[K]) due(now time.Time) (k K, ok bool) {
	if len(w.heap) == 0 || w.heap[0].at.After(now) {
		return k, false
	}
	k = w.heap[0].key
	w.drop(k)
	return k, true
}

// next returns the earliest time.
func (w *wakes[K]) next() (time.Time, bool) {
	if len(w.heap) == 0 {
		return time.Time{}, false
	}
	return w.heap[0].at, true
}

func (w *wakes[K]) clear() {
	w.heap = nil
	clear(w.byKey)
}

// wakeHeap implements heap.Interface.
type wakeHeap[K comparable] []*wake[K]

func (h wakeHeap[K]) Len() int           { return len(h) }
func (h wakeHeap[K]) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *wakeHeap[K]) Push(x any) {
	e := x.(*wake[K])
	e.pos = len(*h)
	*h = append(*h, e)
}

func (h *wakeHeap[K]) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
