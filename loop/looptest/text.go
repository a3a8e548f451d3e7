package looptest

import (
	"fmt"
	"strings"
	"time"

	"skep/api"
	"skep/model"
)

// Text returns all tasks, a line for each: where it belongs, its ID, its node,
// its state, what it is desired to be unless that is RUNNING, what it was given,
// and why it waits. A last line says when there will be something to do.
func (c *Cluster) Text() string {
	var b strings.Builder
	for _, t := range c.Tasks() {
		fmt.Fprintf(&b, "%s.%d %s", t.GetServiceId(), t.GetSlot(), t.GetId())
		if t.GetNodeId() != "" {
			fmt.Fprintf(&b, " on %s", t.GetNodeId())
		}
		fmt.Fprintf(&b, " %s", t.GetStatus().GetState())
		if t.GetDesiredState() != api.TaskState_RUNNING {
			fmt.Fprintf(&b, " → %s", t.GetDesiredState())
		}
		if why := model.WhyStopped(t); why != "" {
			fmt.Fprintf(&b, " (%s)", why)
		}
		for _, r := range t.GetAssignedGenericResources() {
			if n := r.GetNamedResourceSpec(); n != nil {
				fmt.Fprintf(&b, " %s=%s", n.GetKind(), n.GetValue())
			} else {
				fmt.Fprintf(&b, " %s=%d", r.GetDiscreteResourceSpec().GetKind(), r.GetDiscreteResourceSpec().GetValue())
			}
		}
		if err := t.GetStatus().GetErr(); err != "" {
			fmt.Fprintf(&b, ": %s", err)
		}
		b.WriteByte('\n')
	}
	if !c.next.IsZero() {
		fmt.Fprintf(&b, "again in %s\n", c.next.Sub(c.now).Round(time.Millisecond))
	}
	if b.Len() == 0 {
		return "no tasks\n"
	}
	return b.String()
}
