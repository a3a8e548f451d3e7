package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"skep/api"
	"skep/model"
)

// need is what a task asks of a node.
type need struct {
	// What depends on the node alone.
	runtime     string
	plugins     []plugin
	platforms   []*api.Platform
	constraints []model.Constraint
	unmeetable  bool // the constraints do not parse: no node meets them

	// What depends on what else the node runs.
	cpu, mem int64
	generic  []*api.GenericResource
	ports    []port
	perNode  uint64 // most tasks of the service on one node, 0 for any number
	service  string // counted for perNode
}

// plugin is something a node must list.
type plugin struct{ kind, name string }

// port is a port of a node.
type port struct {
	protocol api.PortConfig_Protocol
	number   uint32
}

// runtimeContainer is the runtime of nodes that list none.
const runtimeContainer = "container"

func needOf(t *api.Task) *need {
	spec := t.GetSpec()
	reserved := spec.GetResources().GetReservations()
	n := &need{
		runtime:   runtimeOf(spec),
		plugins:   pluginsOf(t),
		platforms: spec.GetPlacement().GetPlatforms(),
		cpu:       reserved.GetNanoCpus(),
		mem:       reserved.GetMemoryBytes(),
		generic:   reserved.GetGeneric(),
		perNode:   spec.GetPlacement().GetMaxReplicas(),
	}
	if n.perNode > 0 {
		n.service = t.GetServiceId()
	}
	var err error
	n.constraints, err = model.ParseConstraints(spec.GetPlacement().GetConstraints())
	n.unmeetable = err != nil
	n.ports = portsOf(t)
	return n
}

func runtimeOf(spec *api.TaskSpec) string {
	if g := spec.GetGeneric(); g != nil {
		return strings.ToLower(g.GetKind())
	}
	return runtimeContainer
}

// pluginsOf returns the log driver, unless it is "none", and the drivers of
// volumes other than local ones.
func pluginsOf(t *api.Task) []plugin {
	var plugins []plugin
	if name := t.GetLogDriver().GetName(); name != "" && name != "none" {
		plugins = append(plugins, plugin{"Log", name})
	}
	for _, m := range t.GetSpec().GetContainer().GetMounts() {
		name := m.GetVolumeOptions().GetDriverConfig().GetName()
		if m.GetType() == api.Mount_VOLUME && name != "" && name != "local" {
			plugins = append(plugins, plugin{"Volume", name})
		}
	}
	return plugins
}

// portsOf returns the host ports that t needs for itself.
func portsOf(t *api.Task) []port {
	var ports []port
	for _, p := range t.GetEndpoint().GetPorts() {
		if p.GetPublishMode() == api.PortConfig_HOST && p.GetPublishedPort() != 0 {
			ports = append(ports, port{p.GetProtocol(), p.GetPublishedPort()})
		}
	}
	return ports
}

// poolKey is the same for needs that ask the same of a node alone.
func (n *need) poolKey() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", n.runtime)
	for _, p := range n.plugins {
		fmt.Fprintf(&b, " plugin %q %q", p.kind, p.name)
	}
	for _, p := range n.platforms {
		fmt.Fprintf(&b, " platform %q %q", p.GetOs(), p.GetArchitecture())
	}
	for _, c := range n.constraints {
		fmt.Fprintf(&b, " constraint %q", c.String())
	}
	if n.unmeetable {
		b.WriteString(" unmeetable")
	}
	return b.String()
}

// classKey is the same for needs that fit on the same nodes at any time.
func (n *need) classKey(pool string) string {
	if n.cpu == 0 && n.mem == 0 && len(n.generic) == 0 && len(n.ports) == 0 && n.perNode == 0 {
		return pool
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s cpu %d mem %d", pool, n.cpu, n.mem)
	for _, g := range n.generic {
		fmt.Fprintf(&b, " generic %q %d %q", g.GetDiscreteResourceSpec().GetKind(), g.GetDiscreteResourceSpec().GetValue(), g.GetNamedResourceSpec().GetKind())
	}
	for _, p := range n.ports {
		fmt.Fprintf(&b, " port %d/%d", p.number, p.protocol)
	}
	if n.perNode > 0 {
		fmt.Fprintf(&b, " at most %d of %s", n.perNode, n.service)
	}
	return b.String()
}

// suits reports whether a node can take such tasks when nothing else runs on it.
func (n *need) suits(node *api.Node) bool {
	return available(node) && n.runtimeOn(node) && n.pluginsOn(node) && n.constraintsMet(node) && model.RunsOn(node.GetDescription().GetPlatform(), n.platforms)
}

func available(node *api.Node) bool {
	return node.GetStatus().GetState() == api.NodeStatus_READY && node.GetSpec().GetAvailability() == api.NodeSpec_ACTIVE
}

// runtimeOn looks at the plugins of type Runtime; a node that lists none is a
// stock engine, which takes containers.
func (n *need) runtimeOn(node *api.Node) bool {
	listed := false
	for _, p := range node.GetDescription().GetEngine().GetPlugins() {
		if p.GetType() == "Runtime" {
			listed = true
			if strings.EqualFold(p.GetName(), n.runtime) {
				return true
			}
		}
	}
	return !listed && n.runtime == runtimeContainer
}

// pluginsOn lets nodes pass of which nothing is known: those without an engine,
// and for log drivers those that list none.
func (n *need) pluginsOn(node *api.Node) bool {
	engine := node.GetDescription().GetEngine()
	if engine == nil {
		return true
	}
	for _, want := range n.plugins {
		listed, has := false, false
		for _, p := range engine.GetPlugins() {
			if p.GetType() == want.kind {
				listed = true
				has = has || p.GetName() == want.name || p.GetName() == want.name+":latest"
			}
		}
		if !has && (listed || want.kind != "Log") {
			return false
		}
	}
	return true
}

func (n *need) constraintsMet(node *api.Node) bool {
	return !n.unmeetable && !slices.ContainsFunc(n.constraints, func(c model.Constraint) bool { return !c.Matches(node) })
}

// anchor returns one thing that every node has that meets the constraints.
func (n *need) anchor() (string, bool) {
	for _, c := range n.constraints {
		if anchor, ok := c.Anchor(); ok {
			return anchor, true
		}
	}
	return "", false
}
