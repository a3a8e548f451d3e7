package manager

import (
	"testing"

	"github.com/gogo/protobuf/types"
	"github.com/moby/swarmkit/v2/api"
	"google.golang.org/grpc/codes"
)

func (m *swarmd) createSecret(t *testing.T, name, data string) *api.Secret {
	t.Helper()
	return must(m.CreateSecret(m.ctx, &api.CreateSecretRequest{Spec: &api.SecretSpec{
		Annotations: api.Annotations{Name: name}, Data: []byte(data),
	}}))(t).Secret
}

func (m *swarmd) createConfig(t *testing.T, name, data string) *api.Config {
	t.Helper()
	return must(m.CreateConfig(m.ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{
		Annotations: api.Annotations{Name: name}, Data: []byte(data),
	}}))(t).Config
}

// withFiles gives a service's container a secret and a config.
func withFiles(spec *api.ServiceSpec, secret *api.Secret, config *api.Config) *api.ServiceSpec {
	container := spec.Task.GetContainer()
	container.Secrets = []*api.SecretReference{{
		SecretID: secret.ID, SecretName: secret.Spec.Annotations.Name,
		Target: &api.SecretReference_File{File: &api.FileTarget{Name: "password", UID: "0", GID: "0", Mode: 0o400}},
	}}
	container.Configs = []*api.ConfigReference{{
		ConfigID: config.ID, ConfigName: config.Spec.Annotations.Name,
		Target: &api.ConfigReference_File{File: &api.FileTarget{Name: "/etc/web.conf", UID: "0", GID: "0", Mode: 0o444}},
	}}
	return spec
}

func TestASecretIsNeverShown(t *testing.T) {
	t.Parallel()
	m := start(t)
	secret := m.createSecret(t, "db.password", "hunter2")
	got := must(m.GetSecret(m.ctx, &api.GetSecretRequest{SecretID: secret.ID}))(t).Secret
	listed := must(m.ListSecrets(m.ctx, &api.ListSecretsRequest{Filters: &api.ListSecretsRequest_Filters{NamePrefixes: []string{"db."}}}))(t).Secrets
	if len(listed) != 1 {
		t.Fatalf("got %d secrets, want 1", len(listed))
	}
	got.Spec.Annotations.Labels = map[string]string{"rotated": "never"}
	updated := must(m.UpdateSecret(m.ctx, &api.UpdateSecretRequest{SecretID: secret.ID, SecretVersion: &got.Meta.Version, Spec: &got.Spec}))(t).Secret
	if updated.Spec.Annotations.Labels["rotated"] != "never" {
		t.Errorf("labels are %v after the update", updated.Spec.Annotations.Labels)
	}
	for _, s := range []*api.Secret{secret, got, listed[0], updated} {
		if len(s.Spec.Data) > 0 {
			t.Errorf("the data of a secret is shown: %q", s.Spec.Data)
		}
	}
	_, err := m.UpdateSecret(m.ctx, &api.UpdateSecretRequest{SecretID: secret.ID, SecretVersion: &secret.Meta.Version, Spec: &got.Spec})
	refused(t, err, codes.Aborted, "update out of sequence")
	got.Spec.Data = []byte("other")
	_, err = m.UpdateSecret(m.ctx, &api.UpdateSecretRequest{SecretID: secret.ID, SecretVersion: &updated.Meta.Version, Spec: &got.Spec})
	refused(t, err, codes.InvalidArgument, "only labels may")
}

func TestAConfigIsShownWithItsData(t *testing.T) {
	t.Parallel()
	m := start(t)
	config := m.createConfig(t, "web.conf", "listen 80")
	got := must(m.GetConfig(m.ctx, &api.GetConfigRequest{ConfigID: config.ID}))(t).Config
	listed := must(m.ListConfigs(m.ctx, &api.ListConfigsRequest{Filters: &api.ListConfigsRequest_Filters{IDPrefixes: []string{config.ID[:8]}}}))(t).Configs
	if len(listed) != 1 || string(listed[0].Spec.Data) != "listen 80" || string(got.Spec.Data) != "listen 80" {
		t.Errorf("got %v and %v, want the data in both", got, listed)
	}
	got.Spec.Annotations.Labels = map[string]string{"a": "b"}
	updated := must(m.UpdateConfig(m.ctx, &api.UpdateConfigRequest{ConfigID: config.ID, ConfigVersion: &got.Meta.Version, Spec: &got.Spec}))(t).Config
	if updated.Spec.Annotations.Labels["a"] != "b" || string(updated.Spec.Data) != "listen 80" {
		t.Errorf("updated to %v", updated)
	}
	_, err := m.CreateConfig(m.ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{Annotations: api.Annotations{Name: "WEB.conf"}, Data: []byte("x")}})
	refused(t, err, codes.AlreadyExists, "name conflicts with an existing object")
}

func TestWhatAServiceUsesIsNotRemoved(t *testing.T) {
	t.Parallel()
	m := start(t)
	secret, config := m.createSecret(t, "password", "hunter2"), m.createConfig(t, "web.conf", "listen 80")
	web := m.create(t, withFiles(service("web", 1), secret, config))
	_, err := m.RemoveSecret(m.ctx, &api.RemoveSecretRequest{SecretID: secret.ID})
	refused(t, err, codes.InvalidArgument, "in use by the following service")
	_, err = m.RemoveConfig(m.ctx, &api.RemoveConfigRequest{ConfigID: config.ID})
	refused(t, err, codes.InvalidArgument, "in use by the following service")
	must(m.RemoveService(m.ctx, &api.RemoveServiceRequest{ServiceID: web.ID}))(t)
	must(m.RemoveSecret(m.ctx, &api.RemoveSecretRequest{SecretID: secret.ID}))(t)
	must(m.RemoveConfig(m.ctx, &api.RemoveConfigRequest{ConfigID: config.ID}))(t)
	_, err = m.GetSecret(m.ctx, &api.GetSecretRequest{SecretID: secret.ID})
	refused(t, err, codes.NotFound, secret.ID)
	_, err = m.CreateService(m.ctx, &api.CreateServiceRequest{Spec: withFiles(service("web", 1), secret, config)})
	refused(t, err, codes.InvalidArgument, "password")
}

func TestExtensionsHaveResources(t *testing.T) {
	t.Parallel()
	m := start(t)
	_, err := m.CreateResource(m.ctx, &api.CreateResourceRequest{Annotations: &api.Annotations{Name: "one"}, Kind: "widget"})
	refused(t, err, codes.InvalidArgument, "widget")
	extension := must(m.CreateExtension(m.ctx, &api.CreateExtensionRequest{Annotations: &api.Annotations{Name: "widget"}, Description: "a thing"}))(t).Extension
	_, err = m.CreateExtension(m.ctx, &api.CreateExtensionRequest{Annotations: &api.Annotations{Name: "task"}})
	refused(t, err, codes.AlreadyExists, "task")
	if got := must(m.GetExtension(m.ctx, &api.GetExtensionRequest{ExtensionID: extension.ID}))(t).Extension; got.Description != "a thing" {
		t.Errorf("got extension %v", got)
	}

	changes := m.watching(t, &api.WatchRequest{Entries: []*api.WatchRequest_WatchEntry{{Kind: "widget", Action: everyAction}}})
	payload := &types.Any{TypeUrl: "example.com/widget", Value: []byte{1, 2, 3}}
	one := must(m.CreateResource(m.ctx, &api.CreateResourceRequest{Annotations: &api.Annotations{Name: "one"}, Kind: "widget", Payload: payload}))(t).Resource
	if told := must(changes.Recv())(t).Events; len(told) != 1 || told[0].Object.GetResource().GetID() != one.ID {
		t.Errorf("a watch of the extension's kind is told %v, want the new resource", told)
	}
	payload = &types.Any{TypeUrl: "example.com/widget", Value: []byte{4}}
	must(m.UpdateResource(m.ctx, &api.UpdateResourceRequest{ResourceID: one.ID, ResourceVersion: &one.Meta.Version, Payload: payload}))(t)
	_, err = m.UpdateResource(m.ctx, &api.UpdateResourceRequest{ResourceID: one.ID, ResourceVersion: &one.Meta.Version, Payload: payload})
	refused(t, err, codes.Aborted, "update out of sequence")
	listed := must(m.ListResources(m.ctx, &api.ListResourcesRequest{Filters: &api.ListResourcesRequest_Filters{Kind: "widget"}}))(t).Resources
	if len(listed) != 1 || string(listed[0].Payload.Value) != "\x04" || listed[0].Annotations.Name != "one" {
		t.Errorf("listed %v, want the updated resource", listed)
	}

	_, err = m.RemoveExtension(m.ctx, &api.RemoveExtensionRequest{ExtensionID: extension.ID})
	refused(t, err, codes.InvalidArgument, "in use")
	must(m.RemoveResource(m.ctx, &api.RemoveResourceRequest{ResourceID: one.ID}))(t)
	must(m.RemoveExtension(m.ctx, &api.RemoveExtensionRequest{ExtensionID: extension.ID}))(t)
	_, err = m.GetResource(m.ctx, &api.GetResourceRequest{ResourceID: one.ID})
	refused(t, err, codes.NotFound, one.ID)
}
