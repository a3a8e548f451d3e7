package controlapi

import (
	"fmt"
	"slices"
	"strings"

	"skep/api"
	"skep/api/skep"
	"skep/model"
	"skep/store"
)

// checkNetworks refuses to attach tasks to the ingress network by hand: ports
// that are published do that.
func checkNetworks(s *store.Snapshot, spec *api.ServiceSpec) error {
	for _, attachments := range [][]*api.NetworkAttachmentConfig{spec.GetTask().GetNetworks(), spec.GetNetworks()} {
		for _, a := range attachments {
			network, ok := s.Networks.Get(a.GetTarget())
			if !ok {
				network, ok = s.Networks.Named(a.GetTarget())
			}
			if ok && network.GetSpec().GetIngress() {
				return model.Errorf(model.Invalid, "the service names the ingress network %.80q: tasks are attached to it when they publish ports; leave it out of networks", a.GetTarget())
			}
		}
	}
	return nil
}

// checkIngress refuses ports in ingress mode where there is no ingress network.
func checkIngress(s *store.Snapshot, e *api.EndpointSpec) error {
	i := slices.IndexFunc(e.GetPorts(), func(p *api.PortConfig) bool { return p.GetPublishMode() == api.PortConfig_INGRESS })
	if i < 0 {
		return nil
	}
	for n := range s.Networks.All() {
		if n.GetSpec().GetIngress() {
			return nil
		}
	}
	return model.Errorf(model.Precondition, "port %s is published in ingress mode, and this cluster has no ingress network: nothing would carry it from every node to the tasks; publish it on the tasks' own nodes with mode=host", model.PortText(e.GetPorts()[i]))
}

// checkPorts refuses a published port that another service holds. In ingress mode
// it is taken on every node; two services may publish the same one in host mode,
// and are then never placed on one node.
func checkPorts(s *store.Snapshot, id string, e *api.EndpointSpec) error {
	wanted := make(map[port]*api.PortConfig)
	for _, p := range e.GetPorts() {
		if p.GetPublishedPort() != 0 {
			wanted[portOf(p)] = p
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	for other := range s.Services.All() {
		if other.GetId() == id {
			continue
		}
		for _, held := range [][]*api.PortConfig{other.GetSpec().GetEndpoint().GetPorts(), other.GetEndpoint().GetPorts()} {
			for _, p := range held {
				want, ok := wanted[portOf(p)]
				if !ok || want.GetPublishMode() == api.PortConfig_HOST && p.GetPublishMode() == api.PortConfig_HOST {
					continue
				}
				return model.Errorf(model.Invalid, "port %s is already in use by service %q (%s), and one of the two is published in ingress mode, which takes it on every node; publish another port", model.PortText(want), other.GetSpec().GetAnnotations().GetName(), other.GetId())
			}
		}
	}
	return nil
}

// port is what only one service may have in ingress mode.
type port struct {
	number   uint32
	protocol api.PortConfig_Protocol
}

func portOf(p *api.PortConfig) port { return port{p.GetPublishedPort(), p.GetProtocol()} }

// checkReferences checks that the secrets and configs a task refers to exist, by
// the names it calls them. The error lists all that do not.
func checkReferences(s *store.Snapshot, spec *api.TaskSpec) error {
	process, err := model.Process(spec)
	if err != nil {
		return err
	}
	secrets := slices.AppendSeq(filesOf(process.GetSecrets()), model.SecretsOf(spec))
	if err := checkExist("secret", secrets, func(id string) (string, bool) {
		secret, ok := s.Secrets.Get(id)
		return secret.GetSpec().GetAnnotations().GetName(), ok
	}); err != nil {
		return err
	}
	configs := slices.AppendSeq(filesOf(process.GetConfigs()), model.ConfigsOf(spec))
	return checkExist("config", configs, func(id string) (string, bool) {
		config, ok := s.Configs.Get(id)
		return config.GetSpec().GetAnnotations().GetName(), ok
	})
}

func filesOf(files []*skep.FileReference) []model.Reference {
	references := make([]model.Reference, len(files))
	for i, f := range files {
		references[i] = model.Reference{ID: f.GetId(), Name: f.GetName()}
	}
	return references
}

// checkExist checks that nameOf knows every reference, and by its name.
func checkExist(what string, references []model.Reference, nameOf func(id string) (string, bool)) error {
	var missing []string
	for _, r := range references {
		name, ok := nameOf(r.ID)
		if ok && (r.Name == "" || r.Name == name) {
			continue
		}
		called := r.Name
		if called == "" {
			called = r.ID
		}
		if !slices.Contains(missing, called) {
			missing = append(missing, called)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return model.Errorf(model.Invalid, "%ss not found: %s. A task would wait for them for ever; create them, or refer to ones that exist by ID and name", what, listed(missing))
}

// listed joins names for an error, the first ten of them.
func listed(names []string) string {
	const most = 10
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%.80q", name)
	}
	return strings.Join(quoted, ", ") + more
}
