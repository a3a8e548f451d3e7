package model

import (
	"strconv"

	"skep/api"
)

// Terminal reports whether a task in state s has ended for good.
func Terminal(s api.TaskState) bool { return s > api.TaskState_RUNNING }

// HoldsResources reports whether a task in state s counts against its node.
func HoldsResources(s api.TaskState) bool {
	return s >= api.TaskState_ASSIGNED && s <= api.TaskState_RUNNING
}

// Wanted reports whether a task is meant to run, or to be made ready to run.
func Wanted(desired api.TaskState) bool { return desired <= api.TaskState_RUNNING }

// TaskName is the name of a task: its own if it has one, else that of its
// service, its slot (its node, where tasks have no slots) and its ID.
func TaskName(t *api.Task) string {
	if name := t.GetAnnotations().GetName(); name != "" {
		return name
	}
	place := t.GetNodeId()
	if t.GetSlot() != 0 {
		place = strconv.FormatUint(t.GetSlot(), 10)
	}
	return t.GetServiceAnnotations().GetName() + "." + place + "." + t.GetId()
}
