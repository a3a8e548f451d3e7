package store

// gate holds back, in order of arrival, those who would put more in flight than
// is allowed. One is let in at a time; it opens for the next when it is done.
type gate struct {
	waiting []chan struct{}
}

func (g *gate) join() chan struct{} {
	c := make(chan struct{})
	g.waiting = append(g.waiting, c)
	return c
}

// open lets the first one in.
func (g *gate) open() {
	if len(g.waiting) > 0 {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
	}
}

// leave takes c out of the line. It reports false if c was let in already.
func (g *gate) leave(c chan struct{}) bool {
	for i, w := range g.waiting {
		if w == c {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			return true
		}
	}
	return false
}
