package looptest

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/model"
	"skep/store"
)

// Draw carries out lines such as
//
//	node a1 cpu=2 mem=4 zone=a generic=gpu=U1,gpu=U2 runtime=process state=down availability=drain
//	service web replicas=3 cpu=1 image=web:2 constraint=node.labels.zone==a restart=on-failure delay=5s
//	remove service web
//	task t1 FAILED
//	task t1 a1 RUNNING
//	remove task t1
//	retain 2
//
// A second line for a node or service changes what it names and keeps the rest.
// Loops settle before a line about a task, so that there is one.
func (c *Cluster) Draw(tb TB, lines string) {
	tb.Helper()
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := c.draw(tb, words); err != nil {
			tb.Fatalf("%q: %v", strings.TrimSpace(line), err)
		}
	}
}

func (c *Cluster) draw(tb TB, words []string) error {
	tb.Helper()
	if words[0] == "task" {
		c.Settle(tb)
	}
	switch {
	case words[0] == "node" && len(words) > 1:
		return c.node(tb, words[1], words[2:])
	case words[0] == "service" && len(words) > 1:
		return c.service(tb, words[1], words[2:])
	case words[0] == "remove" && len(words) == 3:
		kind := map[string]store.Kind{"service": store.KindService, "node": store.KindNode, "task": store.KindTask}[words[1]]
		c.Do(tb, func(tx *store.Tx) error { return tx.Remove(kind, words[2]) })
	case words[0] == "task" && len(words) == 3:
		state, ok := api.TaskState_value[words[2]]
		if !ok {
			return fmt.Errorf("there is no state %s", words[2])
		}
		c.Report(tb, words[1], api.TaskState(state))
	case words[0] == "task" && len(words) == 4:
		c.Do(tb, func(tx *store.Tx) error {
			t, ok := tx.Tasks.Get(words[1])
			if !ok {
				return fmt.Errorf("there is no task %s", words[1])
			}
			t = model.Shallow(t)
			t.NodeId = words[2]
			return tx.Update(t)
		})
		return c.draw(tb, []string{"task", words[1], words[3]})
	case words[0] == "retain" && len(words) == 2:
		n, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return err
		}
		c.Do(tb, func(tx *store.Tx) error { return put(tx, retaining(n)) })
	default:
		return fmt.Errorf("cannot be read")
	}
	return nil
}

func retaining(n int64) *api.Cluster {
	return &api.Cluster{Id: "c", Spec: &api.ClusterSpec{
		Annotations:   &api.Annotations{Name: "default"},
		Orchestration: &api.OrchestrationConfig{TaskHistoryRetentionLimit: n},
	}}
}

// put creates o, or writes it over what is there.
func put[T store.Object](tx *store.Tx, o T) error {
	if _, ok := store.Get[T](tx.Snapshot, o.GetId()); ok {
		if err := tx.Delete(o); err != nil {
			return err
		}
	}
	return tx.Create(o)
}

func (c *Cluster) node(tb TB, id string, words []string) error {
	tb.Helper()
	n, ok := c.Store.Read().Nodes.Get(id)
	if ok {
		n = model.Shallow(n)
	} else {
		n = &api.Node{
			Id:          id,
			Spec:        &api.NodeSpec{},
			Description: &api.NodeDescription{Hostname: id, Engine: &api.EngineDescription{}},
			Status:      &api.NodeStatus{State: api.NodeStatus_READY},
		}
	}
	n.Spec, n.Description = model.Shallow(n.GetSpec()), model.Shallow(n.GetDescription())
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		if err := describe(n, k, v); err != nil {
			return err
		}
	}
	c.Do(tb, func(tx *store.Tx) error {
		if ok {
			return tx.Update(n)
		}
		return tx.Create(n)
	})
	return nil
}

func describe(n *api.Node, k, v string) error {
	resources := &api.Resources{}
	if r := n.GetDescription().GetResources(); r != nil {
		resources = model.Shallow(r)
	}
	switch k {
	case "cpu", "mem":
		amount, err := quantity(k, v)
		if err != nil {
			return err
		}
		if k == "cpu" {
			resources.NanoCpus = amount
		} else {
			resources.MemoryBytes = amount
		}
		n.Description.Resources = resources
	case "generic":
		generic, err := model.ParseGenericResources(v)
		if err != nil {
			return err
		}
		resources.Generic = generic
		n.Description.Resources = resources
	case "state":
		n.Status = &api.NodeStatus{State: api.NodeStatus_State(api.NodeStatus_State_value[strings.ToUpper(v)])}
	case "availability":
		n.Spec.Availability = api.NodeSpec_Availability(api.NodeSpec_Availability_value[strings.ToUpper(v)])
	case "platform":
		os, arch, _ := strings.Cut(v, "/")
		n.Description.Platform = &api.Platform{Os: os, Architecture: arch}
	case "runtime", "log":
		kind := map[string]string{"runtime": "Runtime", "log": "Log"}[k]
		engine := model.Shallow(n.GetDescription().GetEngine())
		engine.Plugins = append(append([]*api.PluginDescription(nil), engine.GetPlugins()...), &api.PluginDescription{Type: kind, Name: v})
		n.Description.Engine = engine
	default:
		annotations := &api.Annotations{Labels: map[string]string{}}
		for l, value := range n.GetSpec().GetAnnotations().GetLabels() {
			annotations.Labels[l] = value
		}
		annotations.Labels[k] = v
		n.Spec.Annotations = annotations
	}
	return nil
}

func quantity(k, v string) (int64, error) {
	f, err := strconv.ParseFloat(v, 64)
	if k == "cpu" {
		return int64(f * 1e9), err
	}
	return int64(f * (1 << 30)), err
}

func (c *Cluster) service(tb TB, name string, words []string) error {
	tb.Helper()
	svc, ok := c.Store.Read().Services.Get(name)
	spec := &api.ServiceSpec{
		Annotations: &api.Annotations{Name: name},
		Task:        &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: "image"}}},
		Mode:        &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: 1}},
	}
	if ok {
		svc = model.Shallow(svc)
		spec = model.Shallow(svc.GetSpec())
	} else {
		svc = &api.Service{Id: name}
	}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		if k == "replicas" {
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return err
			}
			spec.Mode = &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: n}}
			continue
		}
		if k == "port" {
			if err := publish(spec, v); err != nil {
				return err
			}
			continue
		}
		spec.Task = model.Shallow(spec.GetTask())
		if err := ask(spec.GetTask(), k, v); err != nil {
			return err
		}
	}
	svc.Spec = spec
	svc.SpecVersion = &api.Version{Index: svc.GetMeta().GetVersion().GetIndex()}
	c.Do(tb, func(tx *store.Tx) error {
		if ok {
			return tx.Update(svc)
		}
		return tx.Create(svc)
	})
	return nil
}

func publish(spec *api.ServiceSpec, v string) error {
	mode := api.PortConfig_HOST
	v, ingress := strings.CutPrefix(v, "ingress:")
	if ingress {
		mode = api.PortConfig_INGRESS
	}
	number, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return err
	}
	endpoint := &api.EndpointSpec{Ports: append([]*api.PortConfig(nil), spec.GetEndpoint().GetPorts()...)}
	endpoint.Ports = append(endpoint.Ports, &api.PortConfig{TargetPort: 80, PublishedPort: uint32(number), PublishMode: mode})
	spec.Endpoint = endpoint
	return nil
}

func ask(spec *api.TaskSpec, k, v string) error {
	reserved := &api.Resources{}
	if r := spec.GetResources().GetReservations(); r != nil {
		reserved = model.Shallow(r)
	}
	restart := &api.RestartPolicy{Condition: api.RestartPolicy_ANY}
	if r := spec.GetRestart(); r != nil {
		restart = model.Shallow(r)
	}
	placement := &api.Placement{}
	if p := spec.GetPlacement(); p != nil {
		placement = model.Shallow(p)
	}
	var err error
	switch k {
	case "image":
		spec.Runtime = &api.TaskSpec_Container{Container: &api.ContainerSpec{Image: v}}
	case "runtime":
		spec.Runtime = &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: v}}
	case "log":
		spec.LogDriver = &api.Driver{Name: v}
	case "network":
		spec.Networks = append(spec.GetNetworks(), &api.NetworkAttachmentConfig{Target: v})
	case "cpu":
		reserved.NanoCpus, err = quantity(k, v)
		spec.Resources = &api.ResourceRequirements{Reservations: reserved}
	case "mem":
		reserved.MemoryBytes, err = quantity(k, v)
		spec.Resources = &api.ResourceRequirements{Reservations: reserved}
	case "generic":
		reserved.Generic, err = model.ParseGenericResources(v)
		spec.Resources = &api.ResourceRequirements{Reservations: reserved}
	case "constraint":
		placement.Constraints = append(append([]string(nil), placement.GetConstraints()...), v)
		spec.Placement = placement
	case "platform":
		os, arch, _ := strings.Cut(v, "/")
		placement.Platforms = append(append([]*api.Platform(nil), placement.GetPlatforms()...), &api.Platform{Os: os, Architecture: arch})
		spec.Placement = placement
	case "per-node":
		placement.MaxReplicas, err = strconv.ParseUint(v, 10, 64)
		spec.Placement = placement
	case "restart":
		restart.Condition = api.RestartPolicy_RestartCondition(api.RestartPolicy_RestartCondition_value[strings.ToUpper(strings.ReplaceAll(v, "-", "_"))])
		spec.Restart = restart
	case "attempts":
		restart.MaxAttempts, err = strconv.ParseUint(v, 10, 64)
		spec.Restart = restart
	case "delay", "window":
		var d time.Duration
		d, err = time.ParseDuration(v)
		if k == "delay" {
			restart.Delay = durationpb.New(d)
		} else {
			restart.Window = durationpb.New(d)
		}
		spec.Restart = restart
	default:
		return fmt.Errorf("a service has no %s", k)
	}
	return err
}
