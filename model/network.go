package model

import (
	"net/netip"

	"skep/api"
)

// PredefinedLabel marks networks that every node has by itself; users neither
// create nor remove them.
const PredefinedLabel = "com.docker.swarm.predefined"

// CheckNetwork checks the spec of a new network. Its errors have kind Invalid, or
// Denied for the label of predefined networks. Drivers are checked by who has them.
func CheckNetwork(spec *api.NetworkSpec) error {
	if spec == nil {
		return Errorf(Invalid, "network has no spec: nothing says what it is; set spec")
	}
	if spec.GetAttachable() && spec.GetIngress() {
		return Errorf(Invalid, "network is attachable and ingress: containers are not attached to the ingress network by hand; choose one")
	}
	if err := CheckName("network", spec.GetAnnotations().GetName()); err != nil {
		return err
	}
	if err := CheckWellFormed("network", spec); err != nil {
		return err
	}
	if _, ok := spec.GetAnnotations().GetLabels()[PredefinedLabel]; ok {
		return Errorf(Denied, "network has label %s: it marks the networks that every node has by itself; leave it out", PredefinedLabel)
	}
	for i, c := range spec.GetIpam().GetConfigs() {
		if err := checkIPAM(i, c); err != nil {
			return err
		}
	}
	return nil
}

func checkIPAM(i int, c *api.IPAMConfig) error {
	subnet, err := netip.ParsePrefix(c.GetSubnet())
	if err != nil {
		return Errorf(Invalid, "network.ipam.configs.%d.subnet %.80q is not a network; write it as 10.1.0.0/16", i, c.GetSubnet())
	}
	if c.GetRange() != "" {
		r, err := netip.ParsePrefix(c.GetRange())
		if err != nil {
			return Errorf(Invalid, "network.ipam.configs.%d.range %.80q is not a network; write it as 10.1.2.0/24", i, c.GetRange())
		}
		if r.Bits() < subnet.Bits() || !subnet.Contains(r.Addr()) {
			return Errorf(Invalid, "network.ipam.configs.%d.range %v does not lie in subnet %v: addresses come from both; choose a part of the subnet", i, r, subnet)
		}
	}
	if c.GetGateway() != "" {
		g, err := netip.ParseAddr(c.GetGateway())
		if err != nil {
			return Errorf(Invalid, "network.ipam.configs.%d.gateway %.80q is not an address; write it as 10.1.0.1", i, c.GetGateway())
		}
		if !subnet.Contains(g) {
			return Errorf(Invalid, "network.ipam.configs.%d.gateway %v does not lie in subnet %v: nothing would reach it; choose an address of the subnet", i, g, subnet)
		}
	}
	return nil
}
