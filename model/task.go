package model

import "skep/api"

// Terminal reports whether a task in state s has ended for good.
func Terminal(s api.TaskState) bool { return s > api.TaskState_RUNNING }

// HoldsResources reports whether a task in state s counts against its node.
func HoldsResources(s api.TaskState) bool {
	return s >= api.TaskState_ASSIGNED && s <= api.TaskState_RUNNING
}

// Wanted reports whether a task is meant to run, or to be made ready to run.
func Wanted(desired api.TaskState) bool { return desired <= api.TaskState_RUNNING }
