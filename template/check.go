package template

import (
	"skep/api"
	"skep/api/skep"
	"skep/model"
)

// Check expands the templates of a service's task against a task and a node
// that do not exist, and returns an error of kind Invalid for the first that
// cannot be expanded. A runtime that knows no templates passes.
func Check(spec *api.ServiceSpec) error {
	data := New(&api.Task{
		Id:                 "task-id",
		ServiceId:          "service-id",
		NodeId:             "node-id",
		Slot:               1,
		ServiceAnnotations: spec.GetAnnotations(),
	}, Node{ID: "node-id", Hostname: "hostname", Platform: Platform{Architecture: "architecture", OS: "os"}})

	task := spec.GetTask()
	if container := task.GetContainer(); container != nil {
		if _, err := data.Container(container); err != nil {
			return model.Errorf(model.Invalid, "%w", err)
		}
	}
	if payload := task.GetGeneric().GetPayload(); payload.MessageIs(&skep.ProcessSpec{}) {
		process := &skep.ProcessSpec{}
		if err := payload.UnmarshalTo(process); err != nil {
			return model.Errorf(model.Invalid, "decode the process spec: %w", err)
		}
		if _, err := data.Process(process); err != nil {
			return model.Errorf(model.Invalid, "%w", err)
		}
	}
	return nil
}
