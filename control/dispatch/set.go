package dispatch

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
	"skep/store"
)

// Set is what one node has, and the way to what it should have. Make one for
// each stream with NewSet, send what Complete returns, then what every later
// call returns, in order and without loss.
//
// Each call brings the set up to the snapshot or changes that it is given; they
// must not be older than those of the call before. Messages stay under 4 MiB,
// save for the first when the tasks that already run on the node are more than
// that: a worker tears down what the COMPLETE message leaves out.
type Set struct {
	node  string
	tasks map[string]*assigned
	needs map[need]*held
	// version counts changes of the keys of needs.
	version uint64
	// results is the number of the last message, syncs that of the last snapshot.
	results, syncs uint64
	// What the call under way has touched, in order.
	changedTasks []string
	removedTasks []string
	touchedNeeds []need
}

// assigned is one task of the node.
type assigned struct {
	task    *api.Task // the newest version, so that no older one is kept alive
	holding bool      // it counts in its needs
	sent    bool      // the worker has it
	changed bool      // the worker has another version
	seen    uint64    // the last sync that found it
}

// held is a secret or config of the set.
type held struct {
	sent    proto.Message // what the worker has; nil: it does not exist
	tasks   int           // how many references need it
	touched bool
}

// NewSet returns the set of a worker that was sent nothing yet.
func NewSet(node string) *Set { return &Set{node: node} }

// Complete returns the messages that replace all that the worker has: one of
// type COMPLETE, and INCREMENTAL ones if that would be too large.
//
// The first holds every task that has begun on the worker, so that none is torn
// down for want of room, then come the secrets and configs of those, then tasks
// that have ended, last those still to begin, each after what it needs.
func (s *Set) Complete(snapshot *store.Snapshot) []*api.AssignmentsMessage {
	*s = Set{node: s.node, version: s.version + 1}
	s.gather(snapshot)
	var begun, running, ended, waiting []*api.Task
	for _, id := range s.changedTasks {
		a := s.tasks[id]
		a.sent, a.changed = true, false
		switch state := a.task.GetStatus().GetState(); {
		case model.Terminal(state):
			ended = append(ended, a.task)
		case state == api.TaskState_RUNNING:
			running = append(running, a.task)
		case state > api.TaskState_ASSIGNED:
			begun = append(begun, a.task)
		default:
			waiting = append(waiting, a.task)
		}
	}
	changes := make([]*api.AssignmentChange, 0, len(s.tasks)+len(s.needs))
	addTasks := func(tasks ...*api.Task) {
		for _, task := range tasks {
			changes = append(changes, updateTask(task))
		}
	}
	addNeeds := func(tasks ...*api.Task) {
		for _, task := range tasks {
			needsOf(task, func(n need) {
				h := s.needs[n]
				if h == nil || !h.touched {
					return
				}
				h.touched = false
				if h.sent = n.in(snapshot); h.sent != nil {
					changes = append(changes, n.update(h.sent))
				}
			})
		}
	}
	addTasks(begun...)
	addTasks(running...)
	unsplit := len(changes)
	addNeeds(begun...)
	addNeeds(running...)
	addTasks(ended...)
	for _, task := range waiting {
		addNeeds(task)
		addTasks(task)
	}
	s.changedTasks, s.touchedNeeds = nil, nil
	return s.messages(api.AssignmentsMessage_COMPLETE, changes, unsplit)
}

// Apply returns what the changes of commits make of the set; secrets and configs
// are taken from snapshot, which is not older than the last of them.
func (s *Set) Apply(snapshot *store.Snapshot, commits []store.Commit) []*api.AssignmentsMessage {
	for _, commit := range commits {
		for _, change := range commit.Changes {
			switch change.Kind {
			case store.KindTask:
				task, _ := change.New.(*api.Task)
				s.put(change.ID(), task)
			case store.KindSecret, store.KindConfig:
				s.touch(need{change.Kind, change.ID()})
			}
		}
	}
	return s.differences(snapshot)
}

// Sync returns what is different in snapshot. It needs no changes, and so gives
// a worker whose changes were lost what it missed.
func (s *Set) Sync(snapshot *store.Snapshot) []*api.AssignmentsMessage {
	s.gather(snapshot)
	return s.Resolve(snapshot)
}

// Resolve looks all secrets and configs of the set up again in snapshot.
func (s *Set) Resolve(snapshot *store.Snapshot) []*api.AssignmentsMessage {
	for n := range s.needs {
		s.touch(n)
	}
	return s.differences(snapshot)
}

// Tasks returns all tasks of the set, in no order.
func (s *Set) Tasks() []*api.Task {
	tasks := make([]*api.Task, 0, len(s.tasks))
	for _, a := range s.tasks {
		tasks = append(tasks, a.task)
	}
	return tasks
}

// Needs returns the keys of the secrets and configs that the set holds, and a
// number that is another whenever they are.
func (s *Set) Needs() (keys []store.Key, version uint64) {
	for n := range s.needs {
		keys = append(keys, store.ObjectKey(n.kind, n.id))
	}
	return keys, s.version
}

// NeedsVersion is the number that Needs returns.
func (s *Set) NeedsVersion() uint64 { return s.version }

// gather makes the tasks of the set those of snapshot.
func (s *Set) gather(snapshot *store.Snapshot) {
	s.syncs++
	for task := range snapshot.TasksOn(s.node) {
		s.put(task.GetId(), task)
		if a := s.tasks[task.GetId()]; a != nil {
			a.seen = s.syncs
		}
	}
	for id, a := range s.tasks {
		if a.seen != s.syncs {
			s.put(id, nil)
		}
	}
}

// put makes task the version of the set, nil for none.
func (s *Set) put(id string, task *api.Task) {
	a := s.tasks[id]
	belongs := task.GetNodeId() == s.node && task.GetStatus().GetState() >= api.TaskState_ASSIGNED
	switch {
	case task == nil || !belongs:
		if a == nil {
			return
		}
		s.release(a)
		delete(s.tasks, id)
		if a.sent {
			s.removedTasks = append(s.removedTasks, id)
		}
		return
	case a == nil:
		if s.tasks == nil {
			s.tasks = make(map[string]*assigned)
		}
		a = &assigned{}
		s.tasks[id] = a
	}
	if !a.changed && (a.task == nil || !sameAssignment(a.task, task)) {
		a.changed = true
		s.changedTasks = append(s.changedTasks, id)
	}
	live := !model.Terminal(task.GetStatus().GetState())
	if a.holding && (!live || a.task.GetSpec() != task.GetSpec()) {
		s.release(a)
	}
	a.task = task
	if live && !a.holding {
		s.hold(a)
	}
}

func (s *Set) hold(a *assigned) {
	a.holding = true
	needsOf(a.task, func(n need) {
		h := s.needs[n]
		if h == nil {
			if s.needs == nil {
				s.needs = make(map[need]*held)
			}
			h = &held{}
			s.needs[n] = h
			s.version++
		}
		h.tasks++
		s.touch(n)
	})
}

func (s *Set) release(a *assigned) {
	if !a.holding {
		return
	}
	a.holding = false
	needsOf(a.task, func(n need) {
		s.needs[n].tasks--
		s.touch(n)
	})
}

// touch has the next differences look at n.
func (s *Set) touch(n need) {
	if h := s.needs[n]; h != nil && !h.touched {
		h.touched = true
		s.touchedNeeds = append(s.touchedNeeds, n)
	}
}

// differences returns what the worker lacks: what is needed before the tasks
// that need it, what is taken back after those that needed it.
func (s *Set) differences(snapshot *store.Snapshot) []*api.AssignmentsMessage {
	if len(s.changedTasks)+len(s.removedTasks)+len(s.touchedNeeds) == 0 {
		return nil
	}
	var changes, taken []*api.AssignmentChange
	for _, n := range s.touchedNeeds {
		h := s.needs[n]
		h.touched = false
		var object proto.Message
		if h.tasks > 0 {
			object = n.in(snapshot)
		} else {
			delete(s.needs, n)
			s.version++
		}
		switch {
		case object != nil && (h.sent == nil || !samePayload(h.sent, object)):
			changes = append(changes, n.update(object))
		case object == nil && h.sent != nil:
			taken = append(taken, n.remove())
		}
		h.sent = object
	}
	for _, id := range s.changedTasks {
		if a := s.tasks[id]; a != nil && a.changed {
			a.sent, a.changed = true, false
			changes = append(changes, updateTask(a.task))
		}
	}
	for _, id := range s.removedTasks {
		if s.tasks[id] == nil {
			changes = append(changes, removeTask(id))
		}
	}
	s.changedTasks, s.removedTasks, s.touchedNeeds = s.changedTasks[:0], s.removedTasks[:0], s.touchedNeeds[:0]
	return s.messages(api.AssignmentsMessage_INCREMENTAL, append(changes, taken...), 0)
}

const (
	// maxMessage is the size up to which changes are put in one message: under the
	// 4 MiB that peers accept, with room for the rest of the message.
	maxMessage = 4<<20 - 1<<10
	// overhead is more than a change costs in its message beside its own bytes.
	overhead = 6
)

// messages puts changes, in order, into messages that follow each other without
// a gap. The first unsplit of them stay in one.
func (s *Set) messages(first api.AssignmentsMessage_Type, changes []*api.AssignmentChange, unsplit int) []*api.AssignmentsMessage {
	if len(changes) == 0 && first == api.AssignmentsMessage_INCREMENTAL {
		return nil
	}
	var messages []*api.AssignmentsMessage
	begin, size := 0, 0
	flush := func(end int) {
		m := &api.AssignmentsMessage{Type: api.AssignmentsMessage_INCREMENTAL, Changes: changes[begin:end:end]}
		if len(messages) == 0 {
			m.Type = first
		}
		if s.results > 0 {
			m.AppliesTo = strconv.FormatUint(s.results, 10)
		}
		s.results++
		m.ResultsIn = strconv.FormatUint(s.results, 10)
		messages = append(messages, m)
		begin, size = end, 0
	}
	for i, change := range changes {
		bytes := proto.Size(change) + overhead
		if i >= unsplit && size > 0 && size+bytes > maxMessage {
			flush(i)
		}
		size += bytes
	}
	flush(len(changes))
	return messages
}

func updateTask(task *api.Task) *api.AssignmentChange {
	return &api.AssignmentChange{Assignment: &api.Assignment{Item: &api.Assignment_Task{Task: task}}}
}

func removeTask(id string) *api.AssignmentChange {
	change := updateTask(&api.Task{Id: id})
	change.Action = api.AssignmentChange_REMOVE
	return change
}
