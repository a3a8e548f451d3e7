package template

import (
	"strconv"

	"skep/api"
)

// Data is what a template can refer to.
type Data struct {
	Service Service
	Node    Node
	Task    Task
}

// Service is the service that a task belongs to.
type Service struct {
	ID     string
	Name   string
	Labels map[string]string
}

// Node is the machine on which a task runs.
type Node struct {
	ID       string
	Hostname string
	Platform Platform
}

// Platform is what a node's programs are built for, as in "linux" and "x86_64".
type Platform struct {
	Architecture string
	OS           string
}

// Task is the task itself.
type Task struct {
	ID   string
	Name string
	// Slot is the number of the task's slot, or the ID of its node when its
	// service is global and has no slots.
	Slot string
}

// NodeOf returns the node with this ID and description, which may be nil.
func NodeOf(id string, description *api.NodeDescription) Node {
	return Node{
		ID:       id,
		Hostname: description.GetHostname(),
		Platform: Platform{
			Architecture: description.GetPlatform().GetArchitecture(),
			OS:           description.GetPlatform().GetOs(),
		},
	}
}

// New returns what the templates of task see when it runs on node.
func New(task *api.Task, node Node) Data {
	slot := task.GetNodeId()
	if task.GetSlot() != 0 {
		slot = strconv.FormatUint(task.GetSlot(), 10)
	}
	return Data{
		Service: Service{
			ID:     task.GetServiceId(),
			Name:   task.GetServiceAnnotations().GetName(),
			Labels: task.GetServiceAnnotations().GetLabels(),
		},
		Node: node,
		Task: Task{ID: task.GetId(), Name: name(task, slot), Slot: slot},
	}
}

// name is the task's own name, or the one that every task without has.
func name(task *api.Task, slot string) string {
	if name := task.GetAnnotations().GetName(); name != "" {
		return name
	}
	return task.GetServiceAnnotations().GetName() + "." + slot + "." + task.GetId()
}
