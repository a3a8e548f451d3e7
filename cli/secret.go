package cli

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
)

func (a *app) secret() *cobra.Command {
	name := func(s *api.Secret) string { return s.GetSpec().GetAnnotations().GetName() }
	driver := func(s *api.Secret) string { return s.GetSpec().GetDriver().GetName() }
	return dataNoun[*api.Secret]{
		kind: "secret", short: "Manage secrets: bytes that only the tasks that need them see", argument: "SECRET", hasDriver: true,
		finder: a.secrets,
		create: func(ctx context.Context, control api.ControlClient, c content) (*api.Secret, error) {
			r, err := control.CreateSecret(ctx, &api.CreateSecretRequest{Spec: &api.SecretSpec{
				Annotations: c.annotations, Data: c.data, Driver: c.driver, Templating: c.templating}})
			return r.GetSecret(), err
		},
		remove: func(ctx context.Context, control api.ControlClient, id string) error {
			_, err := control.RemoveSecret(ctx, &api.RemoveSecretRequest{SecretId: id})
			return err
		},
		columns: []column[*api.Secret]{{"ID", (*api.Secret).GetId}, {"NAME", name}, {"DRIVER", driver}},
		created: func(s *api.Secret) *timestamppb.Timestamp { return s.GetMeta().GetCreatedAt() },
		summarize: func(out *summary, s *api.Secret) {
			out.line("ID", s.Id)
			out.line("Name", name(s))
			out.line("Driver", cmp.Or(driver(s), "none"))
			out.labels("Label", s.GetSpec().GetAnnotations().GetLabels())
		},
	}.command(a)
}

func (a *app) secrets(control api.ControlClient) finder[*api.Secret] {
	return finder[*api.Secret]{
		kind: "secret",
		name: func(s *api.Secret) string { return s.GetSpec().GetAnnotations().GetName() },
		get: func(ctx context.Context, id string) (*api.Secret, error) {
			r, err := control.GetSecret(ctx, &api.GetSecretRequest{SecretId: id})
			return r.GetSecret(), err
		},
		list: func(ctx context.Context, q query) ([]*api.Secret, error) {
			r, err := control.ListSecrets(ctx, &api.ListSecretsRequest{Filters: &api.ListSecretsRequest_Filters{
				Names: q.names, NamePrefixes: q.namePrefixes, IdPrefixes: q.idPrefixes}})
			return r.GetSecrets(), err
		},
	}
}
