package scheduler

// queue is an ordered set of IDs, from which any can be taken out at once. The
// zero value is empty.
type queue struct {
	ids  []string // "" where one was taken out
	at   map[string]int
	head int // no ID is before it
}

func (q *queue) len() int { return len(q.at) }

func (q *queue) has(id string) bool {
	_, ok := q.at[id]
	return ok
}

func (q *queue) push(id string) {
	if q.has(id) {
		return
	}
	if q.at == nil {
		q.at = map[string]int{}
	}
	q.at[id] = len(q.ids)
	q.ids = append(q.ids, id)
}

func (q *queue) remove(id string) {
	i, ok := q.at[id]
	if !ok {
		return
	}
	delete(q.at, id)
	q.ids[i] = ""
	if len(q.ids) > 32 && len(q.at) < len(q.ids)/2 {
		q.compact()
	}
}

// first returns the ID that has been in longest, "" if there is none.
func (q *queue) first() string {
	for q.head < len(q.ids) {
		if id := q.ids[q.head]; id != "" {
			return id
		}
		q.head++
	}
	return ""
}

// each calls f with all IDs in order until it returns false.
func (q *queue) each(f func(id string) bool) {
	for _, id := range q.ids[min(q.head, len(q.ids)):] {
		if id != "" && !f(id) {
			return
		}
	}
}

func (q *queue) compact() {
	kept := q.ids[:0]
	for _, id := range q.ids {
		if id != "" {
			q.at[id] = len(kept)
			kept = append(kept, id)
		}
	}
	clear(q.ids[len(kept):])
	q.ids, q.head = kept, 0
}
