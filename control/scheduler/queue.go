package scheduler

// queue is an ordered set of IDs, from which any can be taken out. Taking out the
// first, which is what mostly happens, needs no index; one is made when another is
// taken out for the first time. The zero value is empty.
type queue struct {
	ids  []string // from head on; "" where one was taken out
	head int
	n    int
	at   map[string]int // place in ids, nil until it is needed
}

func (q *queue) len() int { return q.n }

// push adds an ID that is not in.
func (q *queue) push(id string) {
	if q.at != nil {
		q.at[id] = len(q.ids)
	}
	q.ids = append(q.ids, id)
	q.n++
}

// remove takes out an ID, if it is in.
func (q *queue) remove(id string) {
	if q.first() == id && id != "" {
		q.ids[q.head] = ""
		q.head++
		if q.at != nil {
			delete(q.at, id)
		}
	} else if !q.removeLater(id) {
		return
	}
	q.n--
	if len(q.ids) > 32 && q.n < len(q.ids)/4 {
		q.compact()
	}
}

func (q *queue) removeLater(id string) bool {
	if q.at == nil {
		q.at = make(map[string]int, q.n)
		for i, id := range q.ids {
			if id != "" {
				q.at[id] = i
			}
		}
	}
	i, ok := q.at[id]
	if ok {
		q.ids[i] = ""
		delete(q.at, id)
	}
	return ok
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

// all returns the IDs in order, at most so many.
func (q *queue) all(most int) []string {
	ids := make([]string, 0, min(q.n, most))
	for _, id := range q.ids[q.head:] {
		if len(ids) == cap(ids) {
			break
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

func (q *queue) compact() {
	kept := q.ids[:0]
	for _, id := range q.ids[q.head:] {
		if id != "" {
			if q.at != nil {
				q.at[id] = len(kept)
			}
			kept = append(kept, id)
		}
	}
	clear(q.ids[len(kept):])
	q.ids, q.head = kept, 0
}
