package cli

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
)

func (a *app) config() *cobra.Command {
	name := func(c *api.Config) string { return c.GetSpec().GetAnnotations().GetName() }
	return dataNoun[*api.Config]{
		kind: "config", short: "Manage configs: bytes that tasks read as files", argument: "CONFIG",
		finder: a.configs,
		create: func(ctx context.Context, control api.ControlClient, c content) (*api.Config, error) {
			r, err := control.CreateConfig(ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{
				Annotations: c.annotations, Data: c.data, Templating: c.templating}})
			return r.GetConfig(), err
		},
		remove: func(ctx context.Context, control api.ControlClient, id string) error {
			_, err := control.RemoveConfig(ctx, &api.RemoveConfigRequest{ConfigId: id})
			return err
		},
		columns: []column[*api.Config]{{"ID", (*api.Config).GetId}, {"NAME", name}},
		created: func(c *api.Config) *timestamppb.Timestamp { return c.GetMeta().GetCreatedAt() },
		summarize: func(out *summary, c *api.Config) {
			out.line("ID", c.Id)
			out.line("Name", name(c))
			out.labels("Label", c.GetSpec().GetAnnotations().GetLabels())
			out.linef("Size", "%d bytes", len(c.GetSpec().GetData()))
		},
	}.command(a)
}

func (a *app) configs(control api.ControlClient) finder[*api.Config] {
	return finder[*api.Config]{
		kind: "config",
		name: func(c *api.Config) string { return c.GetSpec().GetAnnotations().GetName() },
		get: func(ctx context.Context, id string) (*api.Config, error) {
			r, err := control.GetConfig(ctx, &api.GetConfigRequest{ConfigId: id})
			return r.GetConfig(), err
		},
		list: func(ctx context.Context, q query) ([]*api.Config, error) {
			r, err := control.ListConfigs(ctx, &api.ListConfigsRequest{Filters: &api.ListConfigsRequest_Filters{
				Names: q.names, NamePrefixes: q.namePrefixes, IdPrefixes: q.idPrefixes}})
			return r.GetConfigs(), err
		},
	}
}
