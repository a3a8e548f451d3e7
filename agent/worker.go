package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/agent/exec"
	"skep/api"
	"skep/model"
)

// worker is the set of tasks of the node.
type worker struct {
	executor exec.Executor
	now      func() time.Time
	log      *slog.Logger
	journal  *journal
	outbox   *outbox
	vault    vault

	// spawn starts a goroutine that lives until the agent stops.
	spawn func(func(context.Context))

	mu    sync.Mutex
	tasks map[string]*entry
	// waiting are entries that start once they are durable.
	waiting []*entry
	left    bool
	// ended is closed and made anew whenever an entry goes or its task ends.
	ended chan struct{}
}

// entry is one task of the node. Its fields are guarded by the worker's mutex.
type entry struct {
	task *api.Task
	// machine is nil for a task that the executor can never run: then rejected
	// is its status.
	machine  *machine
	rejected *api.TaskStatus
	gone     bool
	// again is the task if it was assigned anew while it is being removed.
	again *api.Task
}

func (e *entry) status() *api.TaskStatus {
	if e.machine == nil {
		return e.rejected
	}
	return e.machine.current().status
}

func newWorker(cfg Config) *worker {
	w := &worker{
		executor: cfg.Executor,
		now:      cfg.Now,
		log:      cfg.Log,
		outbox:   newOutbox(),
		tasks:    make(map[string]*entry),
		ended:    make(chan struct{}),
	}
	w.journal = newJournal(cfg.Storage, cfg.Log, w.record)
	return w
}

// resume goes on with the tasks that the storage knows.
func (w *worker) resume() error {
	records, err := w.journal.storage.Load()
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Task == nil { // never assigned in full
			w.journal.mark(r.ID, false)
			continue
		}
		w.mu.Lock()
		w.add(r.Task, r.Status, r.Gone)
		w.mu.Unlock()
	}
	w.startWaiting()
	return nil
}

// removeUnknown removes what the executor kept of tasks that the storage does not
// know, and that nobody would ever stop: their record was lost. It returns when
// nothing of them is left, so that a task which is assigned again begins anew.
func (w *worker) removeUnknown(ctx context.Context) {
	keeper, ok := w.executor.(exec.Keeper)
	if !ok {
		return
	}
	kept, err := keeper.Tasks()
	if err != nil {
		w.log.Warn("what is left of unknown tasks cannot be listed", "error", err)
		return
	}
	var group sync.WaitGroup
	for _, id := range kept {
		w.mu.Lock()
		_, known := w.tasks[id]
		w.mu.Unlock()
		if known {
			continue
		}
		group.Go(func() {
			if err := keeper.Remove(ctx, id); err != nil {
				w.log.Warn("what is left of an unknown task cannot be removed", "task.id", id, "error", err)
			}
		})
	}
	group.Wait()
}

// record is the task as the journal stores it.
func (w *worker) record(id string, whole bool) (Record, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.tasks[id]
	if e == nil {
		return Record{}, false
	}
	r := Record{ID: id, Status: e.status(), Gone: e.gone}
	if whole {
		r.Task = e.task
	}
	return r, true
}

// assignment is what a message of the managers comes to.
type assignment struct {
	// complete says that there is nothing else.
	complete bool
	changes  []*api.AssignmentChange
}

// assign carries out a message. New tasks start when they are on disk: a task
// that a crash left running is never one that nobody knows of.
func (w *worker) assign(ctx context.Context, a assignment) error {
	assigned := make(map[string]bool)
	secrets, configs := make(map[string]*api.Secret), make(map[string]*api.Config)
	for _, change := range a.changes {
		remove := change.GetAction() == api.AssignmentChange_REMOVE
		switch item := change.GetAssignment().GetItem().(type) {
		case *api.Assignment_Secret:
			secrets[item.Secret.GetId()] = unless(remove, item.Secret)
		case *api.Assignment_Config:
			configs[item.Config.GetId()] = unless(remove, item.Config)
		case *api.Assignment_Task:
			assigned[item.Task.GetId()] = !remove
		}
	}
	// What a task needs comes first, whatever the order.
	if a.complete {
		w.vault.replace(secrets, configs, last(a.changes))
	} else {
		w.vault.change(secrets, configs, last(a.changes))
	}
	news := a.complete || len(secrets)+len(configs) > 0
	w.mu.Lock()
	for _, change := range a.changes {
		if item, ok := change.GetAssignment().GetItem().(*api.Assignment_Task); ok && change.GetAction() == api.AssignmentChange_UPDATE && item.Task.GetId() != "" {
			w.put(item.Task)
		}
	}
	for id, e := range w.tasks {
		if stays, told := assigned[id]; told && !stays || a.complete && !told {
			w.withdraw(id, e)
		}
		if news && e.machine != nil {
			e.machine.hurry()
		}
	}
	starts := len(w.waiting) > 0
	w.mu.Unlock()
	if !starts {
		return nil
	}
	if err := w.journal.flush(ctx); err != nil {
		return fmt.Errorf("begin assigned tasks: %w", err)
	}
	w.startWaiting()
	return nil
}

// unless returns nil instead of v if so.
func unless[T any](so bool, v *T) *T {
	if so {
		return nil
	}
	return v
}

// put adds or updates one task. The caller holds w.mu, as for the next three.
func (w *worker) put(task *api.Task) {
	if w.left {
		return
	}
	e := w.tasks[task.GetId()]
	switch {
	case e == nil:
		w.add(task, task.GetStatus(), false)
		w.journal.mark(task.GetId(), true)
	case e.gone:
		e.again = task
	case e.machine == nil:
	case e.machine.update(task):
		e.task = task
		w.journal.mark(task.GetId(), true)
	}
}

// add makes the machine of a task, which startWaiting starts.
func (w *worker) add(task *api.Task, status *api.TaskStatus, gone bool) {
	id := task.GetId()
	e := &entry{task: task, gone: gone}
	w.tasks[id] = e
	controller, err := w.executor.Controller(task, scope{&w.vault, task})
	if err != nil {
		e.rejected = status
		if !model.Terminal(status.GetState()) {
			e.rejected = &api.TaskStatus{
				State:     api.TaskState_REJECTED,
				Timestamp: timestamppb.New(w.now()),
				Message:   "resolving controller failed",
				Err:       err.Error(),
			}
			if status.GetState() >= api.TaskState_STARTING {
				e.rejected.State = api.TaskState_FAILED
			}
			w.journal.mark(id, false)
			w.outbox.put(id, e.rejected)
		}
		if gone {
			delete(w.tasks, id)
			w.journal.mark(id, false)
		}
		return
	}
	if status == nil {
		status = &api.TaskStatus{}
	}
	e.machine = &machine{id: id, controller: controller, now: w.now, report: w.report, log: w.log, task: task, status: status}
	if gone {
		e.machine.finish(removing)
	}
	w.waiting = append(w.waiting, e)
}

// withdraw begins the removal of a task.
func (w *worker) withdraw(id string, e *entry) {
	e.again = nil
	if e.gone {
		return
	}
	e.gone = true
	w.outbox.drop(id)
	w.journal.mark(id, false)
	if e.machine == nil {
		w.forget(id)
		return
	}
	e.machine.finish(removing)
}

// forget drops an entry of which nothing is left.
func (w *worker) forget(id string) {
	delete(w.tasks, id)
	w.journal.mark(id, false)
	w.wake()
}

// wake lets those who wait for an end look again. The caller holds w.mu.
func (w *worker) wake() {
	close(w.ended)
	w.ended = make(chan struct{})
}

// startWaiting starts the machines that were added.
func (w *worker) startWaiting() {
	w.mu.Lock()
	waiting := w.waiting
	w.waiting = nil
	w.mu.Unlock()
	for _, e := range waiting {
		w.spawn(func(ctx context.Context) {
			if e.machine.run(ctx) {
				w.removed(ctx, e)
			}
		})
	}
}

// removed forgets a task whose machine has removed it.
func (w *worker) removed(ctx context.Context, e *entry) {
	w.mu.Lock()
	w.forget(e.task.GetId())
	if e.again != nil {
		w.put(e.again)
	}
	starts := len(w.waiting) > 0
	w.mu.Unlock()
	if starts && w.journal.flush(ctx) == nil { // else with the next assignment
		w.startWaiting()
	}
}

// report takes a new status of a task.
func (w *worker) report(id string, status *api.TaskStatus) {
	w.mu.Lock()
	e := w.tasks[id]
	known := e != nil && !e.gone
	if known {
		w.journal.mark(id, false)
		w.outbox.put(id, status)
	}
	if model.Terminal(status.GetState()) {
		w.wake()
	}
	w.mu.Unlock()
}

// reportAll reports every task again.
func (w *worker) reportAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, e := range w.tasks {
		if !e.gone {
			w.outbox.put(id, e.status())
		}
	}
}

// leave stops and removes every task, and takes no other from now on. When ctx
// ends, what is left is terminated.
func (w *worker) leave(ctx context.Context) error {
	w.finishAll(leaving)
	if w.empty(ctx) {
		return nil
	}
	w.finishAll(leavingNow)
	const atLast = 10 * time.Second
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), atLast)
	defer cancel()
	if w.empty(last) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Errorf("%d tasks could not be stopped: %w", len(w.tasks), context.Cause(ctx))
}

func (w *worker) finishAll(how ending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = true
	for id, e := range w.tasks {
		e.gone, e.again = true, nil
		w.journal.mark(id, false)
		if e.machine == nil {
			w.forget(id)
		} else {
			e.machine.finish(how)
		}
	}
}

// empty waits until no task is left; false when ctx ended first.
func (w *worker) empty(ctx context.Context) bool {
	return w.until(ctx, func() bool { return len(w.tasks) == 0 })
}

// until waits for done, which is asked under w.mu whenever a task ends or goes;
// false when ctx ended first.
func (w *worker) until(ctx context.Context, done func() bool) bool {
	for {
		w.mu.Lock()
		is, ended := done(), w.ended
		w.mu.Unlock()
		if is {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ended:
		}
	}
}

// controller returns the controller of a task.
func (w *worker) controller(id string) (exec.Controller, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.tasks[id]
	if e == nil {
		return nil, model.Errorf(model.NotFound, "task %s is not on this machine; swarmctl task inspect says where it is", id)
	}
	if e.machine == nil {
		return nil, model.Errorf(model.Precondition, "task %s never ran here: %s", id, e.rejected.GetErr())
	}
	return e.machine.controller, nil
}

// sameTask reports whether two versions differ in no more than status and
// bookkeeping, which are no news to a worker.
func sameTask(a, b *api.Task) bool {
	a, b = model.Shallow(a), model.Shallow(b)
	a.Status, a.Meta = nil, nil
	b.Status, b.Meta = nil, nil
	return proto.Equal(a, b)
}
