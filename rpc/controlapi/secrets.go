package controlapi

import (
	"context"
	"iter"
	"slices"

	"skep/api"
	"skep/model"
	"skep/store"
)

// CreateSecret stores a new secret. The answer does not hold its data, nor does
// any other.
func (s *Server) CreateSecret(ctx context.Context, r *api.CreateSecretRequest) (*api.CreateSecretResponse, error) {
	if err := model.CheckSecret(r.GetSpec()); err != nil {
		return nil, err
	}
	if r.GetSpec().GetDriver() != nil {
		return nil, model.Errorf(model.Unimplemented, "secret %q is to come from driver %.80q: this version asks no drivers yet; give the data itself", r.GetSpec().GetAnnotations().GetName(), r.GetSpec().GetDriver().GetName())
	}
	secret := &api.Secret{Id: s.newID(), Spec: r.GetSpec()}
	if err := create(ctx, s, func(*store.Tx) (store.Object, error) { return secret, nil }); err != nil {
		return nil, err
	}
	return &api.CreateSecretResponse{Secret: model.RedactSecret(secret)}, nil
}

// GetSecret returns a secret without its data.
func (s *Server) GetSecret(_ context.Context, r *api.GetSecretRequest) (*api.GetSecretResponse, error) {
	secret, err := find[*api.Secret](s.store.Read(), r.GetSecretId())
	if err != nil {
		return nil, err
	}
	return &api.GetSecretResponse{Secret: model.RedactSecret(secret)}, nil
}

// ListSecrets returns the secrets that meet the filters, without their data and
// without those that the cluster keeps for itself.
func (s *Server) ListSecrets(_ context.Context, r *api.ListSecretsRequest) (*api.ListSecretsResponse, error) {
	secrets := list(s.store.Read().Secrets.All(), func(o *api.Secret) bool {
		a := o.GetSpec().GetAnnotations()
		return !o.GetInternal() && holdAny(r.GetFilters(), o.GetId(), a.GetName(), a.GetLabels())
	})
	for i, o := range secrets {
		secrets[i] = model.RedactSecret(o)
	}
	return &api.ListSecretsResponse{Secrets: secrets}, nil
}

// UpdateSecret changes the labels of a secret, and nothing else of it can change.
func (s *Server) UpdateSecret(ctx context.Context, r *api.UpdateSecretRequest) (*api.UpdateSecretResponse, error) {
	if r.GetSpec() == nil {
		return nil, model.CheckSecretUpdate(nil, nil)
	}
	secret, err := change(ctx, s, r.GetSecretId(), r.GetSecretVersion(), func(_ *store.Tx, old *api.Secret) (*api.Secret, error) {
		if err := model.CheckSecretUpdate(old.GetSpec(), r.GetSpec()); err != nil {
			return nil, err
		}
		secret := model.Shallow(old)
		secret.Spec = model.Shallow(old.GetSpec())
		secret.Spec.Annotations = relabelled(old.GetSpec().GetAnnotations(), r.GetSpec().GetAnnotations())
		return secret, nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateSecretResponse{Secret: model.RedactSecret(secret)}, nil
}

// RemoveSecret forgets a secret that no service uses.
func (s *Server) RemoveSecret(ctx context.Context, r *api.RemoveSecretRequest) (*api.RemoveSecretResponse, error) {
	err := remove(ctx, s, r.GetSecretId(), func(tx *store.Tx, secret *api.Secret) error {
		return checkUnused("secret", secret.GetSpec().GetAnnotations().GetName(), tx.ServicesUsingSecret(secret.GetId()))
	})
	if err != nil {
		return nil, err
	}
	return &api.RemoveSecretResponse{}, nil
}

// relabelled returns annotations as old with the labels of a.
func relabelled(old, a *api.Annotations) *api.Annotations {
	if old == nil {
		return &api.Annotations{Labels: a.GetLabels()}
	}
	old = model.Shallow(old)
	old.Labels = a.GetLabels()
	return old
}

// checkUnused refuses to remove what services use.
func checkUnused(what, name string, users iter.Seq[*api.Service]) error {
	var names []string
	for v := range users {
		names = append(names, v.GetSpec().GetAnnotations().GetName())
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return model.Errorf(model.Invalid, "%s %.80q is in use by the following service(s): %s. Their tasks could not start without it; update or remove them first", what, name, listed(slices.Compact(names)))
}
