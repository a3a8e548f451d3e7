package scheduler

// spread counts the active tasks of a service by node. Most services of many are
// on one node, which needs no map.
type spread struct {
	node   *node
	count  int32
	others map[*node]int32
}

// on returns how many tasks are on n.
func (s *spread) on(n *node) int32 {
	switch {
	case s == nil:
		return 0
	case s.node == n:
		return s.count
	}
	return s.others[n]
}

// add counts sign more on n.
func (s *spread) add(n *node, sign int32) {
	if s.node == n || s.node == nil && s.others[n] == 0 {
		s.node = n
		if s.count += sign; s.count == 0 {
			s.node = nil
		}
		return
	}
	if s.others == nil {
		s.others = map[*node]int32{}
	}
	if s.others[n] += sign; s.others[n] == 0 {
		delete(s.others, n)
	}
}

func (s *spread) empty() bool { return s.node == nil && len(s.others) == 0 }
