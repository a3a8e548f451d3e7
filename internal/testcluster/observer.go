package testcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"skep/api"
)

// observeEvery is how often an observer reads all tasks.
const observeEvery = 50 * time.Millisecond

// observer reads the tasks again and again and looks for what must never be.
type observer struct {
	end   context.CancelFunc
	group sync.WaitGroup

	mu     sync.Mutex
	breach map[string]error // by promise
}

// Observe reads all tasks, at one of the machines after the other, until the end.
func (c *Cluster) Observe(machines ...string) {
	c.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	o := &observer{end: end, breach: make(map[string]error)}
	c.watchers = append(c.watchers, o)
	var at []*Machine
	for _, name := range machines {
		at = append(at, c.Machine(name))
	}
	o.group.Go(func() {
		seen := make(map[string]*api.Task)
		for i := 0; ctx.Err() == nil; i++ {
			call, cancel := context.WithTimeout(ctx, time.Second)
			r, err := at[i%len(at)].Client().Control.ListTasks(call, &api.ListTasksRequest{})
			cancel()
			if err == nil {
				o.look(seen, r.GetTasks())
			}
			timer := time.NewTimer(observeEvery)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	})
}

func (o *observer) look(seen map[string]*api.Task, tasks []*api.Task) {
	type slot struct {
		service string
		slot    uint64
	}
	live := make(map[slot]string)
	for _, t := range tasks {
		if old := seen[t.GetId()]; old != nil {
			switch {
			case t.GetStatus().GetState() < old.GetStatus().GetState():
				o.found("I4", fmt.Errorf("task %s was %v and is %v", t.GetId(), old.GetStatus().GetState(), t.GetStatus().GetState()))
			case t.GetDesiredState() < old.GetDesiredState():
				o.found("I4", fmt.Errorf("task %s should have been %v and should be %v", t.GetId(), old.GetDesiredState(), t.GetDesiredState()))
			case t.GetMeta().GetVersion().GetIndex() < old.GetMeta().GetVersion().GetIndex():
				o.found("I2", fmt.Errorf("task %s had version %d and has %d", t.GetId(), old.GetMeta().GetVersion().GetIndex(), t.GetMeta().GetVersion().GetIndex()))
			}
		}
		seen[t.GetId()] = t
		if t.GetSlot() == 0 || t.GetDesiredState() > api.TaskState_RUNNING || t.GetStatus().GetState() != api.TaskState_RUNNING {
			continue
		}
		at := slot{t.GetServiceId(), t.GetSlot()}
		if other := live[at]; other != "" {
			o.found("I5", fmt.Errorf("slot %d of service %s has the live tasks %s and %s", at.slot, at.service, other, t.GetId()))
		}
		live[at] = t.GetId()
	}
}

func (o *observer) found(promise string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.breach[promise] == nil {
		o.breach[promise] = err
	}
}

func (o *observer) stop() {
	o.end()
	o.group.Wait()
}

func (c *Cluster) observed(promise string) error {
	var errs []error
	for _, o := range c.watchers {
		o.mu.Lock()
		errs = append(errs, o.breach[promise])
		o.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (c *Cluster) versionsGrow() error   { return c.observed("I2") }
func (c *Cluster) tasksGoForward() error { return c.observed("I4") }
func (c *Cluster) oneTaskInASlot() error { return c.observed("I5") }
