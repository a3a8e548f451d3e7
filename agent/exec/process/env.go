package process

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"skep/api"
	"skep/template"
)

// taskVariable marks every process of a task, wherever it moves.
const taskVariable = "SKEP_TASK_ID"

// defaultPath is where commands are looked for when the agent has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what a process gets, name=value; later entries win.
type environment []string

func (e *environment) set(name, value string) { *e = append(*e, name+"="+value) }

func (e environment) get(name string) string {
	for _, entry := range slices.Backward(e) {
		if n, value, _ := strings.Cut(entry, "="); n == name {
			return value
		}
	}
	return ""
}

// list returns each name once, with its last value.
func (e environment) list() []string {
	var out []string
	seen := make(map[string]bool)
	for _, entry := range slices.Backward(e) {
		name, _, found := strings.Cut(entry, "=")
		if name == "" || !found || seen[name] {
			continue
		}
		seen[name] = true
		out = append(out, entry)
	}
	slices.Reverse(out)
	return out
}

// inherit takes over the little of the agent's own environment that is not its
// own business.
func (e *environment) inherit() {
	e.set("PATH", defaultPath)
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} {
		if value := os.Getenv(name); value != "" {
			e.set(name, value)
		}
	}
}

// identify tells the process what it is.
func (e *environment) identify(data template.Data) {
	e.set(taskVariable, data.Task.ID)
	e.set("SKEP_TASK_NAME", data.Task.Name)
	e.set("SKEP_TASK_SLOT", data.Task.Slot)
	e.set("SKEP_SERVICE_ID", data.Service.ID)
	e.set("SKEP_SERVICE_NAME", data.Service.Name)
	e.set("SKEP_NODE_ID", data.Node.ID)
	e.set("SKEP_NODE_HOSTNAME", data.Node.Hostname)
}

// publish tells the process on which ports it is to listen.
func (e *environment) publish(ports []*api.PortConfig) {
	for i, port := range ports {
		number := strconv.FormatUint(uint64(port.GetPublishedPort()), 10)
		if i == 0 {
			e.set("PORT", number)
		}
		suffix := port.GetName()
		if suffix == "" {
			suffix = strconv.FormatUint(uint64(port.GetTargetPort()), 10)
		}
		e.set("PORT_"+variable(suffix), number)
	}
}

// assign tells the process which generic resources are its own.
func (e *environment) assign(resources []*api.GenericResource) {
	values := make(map[string][]string)
	for _, r := range resources {
		var kind, value string
		if named := r.GetNamedResourceSpec(); named != nil {
			kind, value = named.GetKind(), named.GetValue()
		} else if discrete := r.GetDiscreteResourceSpec(); discrete != nil {
			kind, value = discrete.GetKind(), strconv.FormatInt(discrete.GetValue(), 10)
		} else {
			continue
		}
		values[kind] = append(values[kind], value)
	}
	for _, kind := range slices.Sorted(maps.Keys(values)) {
		e.set("DOCKER_RESOURCE_"+variable(kind), strings.Join(values[kind], ","))
	}
}

// variable makes name fit to be part of the name of a variable.
func variable(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_':
			return r
		}
		return '_'
	}, name)
}
