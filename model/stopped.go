package model

import "skep/api"

// StoppedLabel is the label in a task's annotations that says why the task was
// stopped, when how it ended does not tell: "node a is drained".
const StoppedLabel = "skep.stopped"

// WhyStopped says why task is not meant to run any more, "" if nobody noted it.
func WhyStopped(task *api.Task) string { return task.GetAnnotations().GetLabels()[StoppedLabel] }
