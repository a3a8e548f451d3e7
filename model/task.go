package model

import (
	"cmp"
	"strconv"
	"strings"
	"time"

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

// ByCreation orders tasks by when they were created, then by ID.
func ByCreation(a, b *api.Task) int {
	return cmp.Or(
		a.GetMeta().GetCreatedAt().AsTime().Compare(b.GetMeta().GetCreatedAt().AsTime()),
		strings.Compare(a.GetId(), b.GetId()))
}

// CameToItsState is when a task came to the state it is in: by the clock of the
// managers where it is known, else by that of its node.
func CameToItsState(t *api.Task) time.Time {
	if at := t.GetStatus().GetAppliedAt(); at != nil {
		return at.AsTime()
	}
	return t.GetStatus().GetTimestamp().AsTime()
}
