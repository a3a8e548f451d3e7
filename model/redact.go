package model

import "skep/api"

// RedactSecret returns secret without its data, which no answer ever holds.
func RedactSecret(secret *api.Secret) *api.Secret {
	if secret.GetSpec() == nil {
		return secret
	}
	secret = Shallow(secret)
	secret.Spec = Shallow(secret.Spec)
	secret.Spec.Data = nil
	return secret
}

// RedactCluster returns what those may know of the cluster who may read it: no
// private keys, gossip keys or unlock keys. A field that is not named here does
// not leave the manager. Join tokens are shown.
func RedactCluster(c *api.Cluster) *api.Cluster {
	return &api.Cluster{
		Id:                      c.GetId(),
		Meta:                    c.GetMeta(),
		Spec:                    redactClusterSpec(c.GetSpec()),
		RootCa:                  redactRoot(c.GetRootCa()),
		BlacklistedCertificates: c.GetBlacklistedCertificates(),
		DefaultAddressPool:      c.GetDefaultAddressPool(),
		SubnetSize:              c.GetSubnetSize(),
		VXLANUDPPort:            c.GetVXLANUDPPort(),
	}
}

func redactClusterSpec(spec *api.ClusterSpec) *api.ClusterSpec {
	config := spec.GetCaConfig()
	if len(config.GetSigningCaCert())+len(config.GetSigningCaKey()) == 0 {
		return spec
	}
	spec = Shallow(spec)
	spec.CaConfig = Shallow(config)
	spec.CaConfig.SigningCaCert, spec.CaConfig.SigningCaKey = nil, nil
	return spec
}

func redactRoot(root *api.RootCA) *api.RootCA {
	if root == nil {
		return nil
	}
	root = Shallow(root)
	root.CaKey = nil
	if root.RootRotation != nil {
		root.RootRotation = Shallow(root.RootRotation)
		root.RootRotation.CaKey = nil
	}
	return root
}
