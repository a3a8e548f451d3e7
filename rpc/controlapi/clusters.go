package controlapi

import (
	"context"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/store"
)

// What is shown where the cluster object has none.
const (
	defaultAddressPool = "10.0.0.0/8"
	defaultSubnetSize  = 24
	defaultVXLANPort   = 4789
)

// GetCluster returns the cluster without its keys.
func (s *Server) GetCluster(_ context.Context, r *api.GetClusterRequest) (*api.GetClusterResponse, error) {
	head := s.store.Read()
	c, err := find[*api.Cluster](head, r.GetClusterId())
	if err != nil {
		return nil, err
	}
	return &api.GetClusterResponse{Cluster: shownCluster(head, c)}, nil
}

// ListClusters returns the cluster, if it meets the filters, without its keys.
func (s *Server) ListClusters(_ context.Context, r *api.ListClustersRequest) (*api.ListClustersResponse, error) {
	f := r.GetFilters()
	head := s.store.Read()
	clusters := list(named(head.Clusters, f.GetNames()), func(c *api.Cluster) bool {
		a := c.GetSpec().GetAnnotations()
		return holdAll(f, c.GetId(), a.GetName(), a.GetLabels())
	})
	for i, c := range clusters {
		clusters[i] = shownCluster(head, c)
	}
	return &api.ListClustersResponse{Clusters: clusters}, nil
}

// UpdateCluster replaces the spec of the cluster and, on request, makes new join
// tokens or a new unlock key; the old ones are worth nothing from then on. A spec that
// says so begins or ends a rotation of the root, see planRoot; one that locks the
// managers makes their unlock key, one that does not drops it.
func (s *Server) UpdateCluster(ctx context.Context, r *api.UpdateClusterRequest) (*api.UpdateClusterResponse, error) {
	if err := model.CheckCluster(r.GetSpec()); err != nil {
		return nil, err
	}
	// Keys are made and external CAs asked before the transaction, from the state that
	// the request is about. If that is not the state any more, the update is a conflict.
	var root *api.RootCA
	base, ok := s.store.Proposed().Clusters.Get(r.GetClusterId())
	planned := ok && r.GetClusterVersion() != nil && base.GetMeta().GetVersion().GetIndex() == r.GetClusterVersion().GetIndex()
	if planned {
		var err error
		if root, err = s.planRoot(ctx, base, r.GetSpec()); err != nil {
			return nil, err
		}
	}
	c, err := change(ctx, s, r.GetClusterId(), r.GetClusterVersion(), func(_ *store.Tx, old *api.Cluster) (*api.Cluster, error) {
		if !planned {
			return nil, model.Errorf(model.Conflict, "update out of sequence: cluster %.80q was changed since it was read; read it again and repeat the change", old.GetId())
		}
		c := model.Shallow(old)
		c.Spec, c.RootCa = withoutSigner(r.GetSpec()), root
		if err := lockManagers(c, r.GetRotation().GetManagerUnlockKey()); err != nil {
			return nil, err
		}
		return c, s.rotateTokens(c, r.GetRotation())
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateClusterResponse{Cluster: shownCluster(s.store.Read(), c)}, nil
}

// withoutSigner returns spec without the signing certificate and key: they are an
// order, what came of it stands in the cluster's root.
func withoutSigner(spec *api.ClusterSpec) *api.ClusterSpec {
	config := spec.GetCaConfig()
	if len(config.GetSigningCaCert())+len(config.GetSigningCaKey()) == 0 {
		return spec
	}
	config, spec = model.Shallow(config), model.Shallow(spec)
	config.SigningCaCert, config.SigningCaKey = nil, nil
	spec.CaConfig = config
	return spec
}

// lockManagers gives c, which is a copy of the caller's own, the unlock key that its
// spec asks for: none, the one it has, or another one if rotate says so.
func lockManagers(c *api.Cluster, rotate bool) error {
	locked := c.GetSpec().GetEncryptionConfig().GetAutoLockManagers()
	if rotate && !locked {
		return model.Errorf(model.Precondition, "there is no unlock key to rotate: the managers are not locked; set encryption_config.auto_lock_managers, which makes one")
	}
	var others []*api.EncryptionKey
	for _, k := range c.GetUnlockKeys() {
		if k.GetSubsystem() != ca.ManagerOU {
			others = append(others, k)
		}
	}
	has := len(others) < len(c.GetUnlockKeys())
	switch {
	case !locked && has:
		c.UnlockKeys = others
	case locked && (!has || rotate):
		key, err := ca.NewUnlockKey()
		if err != nil {
			return err
		}
		c.UnlockKeys = append(others, &api.EncryptionKey{Subsystem: ca.ManagerOU, Key: key.Bytes()})
	}
	return nil
}

// rotateTokens makes new join tokens in c, which is a copy of the caller's own.
func (s *Server) rotateTokens(c *api.Cluster, rotation *api.KeyRotation) error {
	if !rotation.GetWorkerJoinToken() && !rotation.GetManagerJoinToken() {
		return nil
	}
	root, tokens := &api.RootCA{}, &api.JoinTokens{}
	if c.GetRootCa() != nil {
		root = model.Shallow(c.GetRootCa())
	}
	if root.GetJoinTokens() != nil {
		tokens = model.Shallow(root.GetJoinTokens())
	}
	var err error
	if rotation.GetWorkerJoinToken() {
		if tokens.Worker, err = s.newJoinToken(root.GetCaCert()); err != nil {
			return err
		}
	}
	if rotation.GetManagerJoinToken() {
		if tokens.Manager, err = s.newJoinToken(root.GetCaCert()); err != nil {
			return err
		}
	}
	root.JoinTokens = tokens
	c.RootCa = root
	return nil
}

// shownCluster returns what may be known of the cluster, with the nodes that were
// removed, and with defaults where it has no settings of its own.
func shownCluster(head *store.Snapshot, c *api.Cluster) *api.Cluster {
	shown := model.WithRemovedNodes(model.RedactCluster(c), head.Resources.All())
	if len(shown.DefaultAddressPool) == 0 {
		shown.DefaultAddressPool, shown.SubnetSize = []string{defaultAddressPool}, defaultSubnetSize
	}
	if shown.VXLANUDPPort == 0 {
		shown.VXLANUDPPort = defaultVXLANPort
	}
	return shown
}
