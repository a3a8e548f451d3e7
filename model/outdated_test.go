package model_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

func TestATaskIsOutdatedWhenAnUpdateHasToReplaceIt(t *testing.T) {
	t.Parallel()
	node := parse(&api.Node{}, `id: "n1" description { hostname: "a" }`)
	service := func(change string) *api.Service {
		s := parse(&api.Service{}, `spec_version { index: 2 } spec { task { container { image: "web:1" } } }`)
		proto.Merge(s, parse(&api.Service{}, change))
		return s
	}
	for _, c := range []struct {
		name    string
		service *api.Service
		task    string
		node    *api.Node
		want    bool
	}{
		{"of the same version, whatever it runs", service(``), `spec_version { index: 2 } spec { container { image: "web:0" } }`, node, false},
		{"of another version with the same spec", service(``), `spec_version { index: 1 } spec { container { image: "web:1" } }`, node, false},
		{"with another image", service(``), `spec_version { index: 1 } spec { container { image: "web:0" } }`, node, true},
		{"with another endpoint", service(`spec { endpoint { mode: DNSRR } }`), `spec_version { index: 1 } spec { container { image: "web:1" } } endpoint { spec { } }`, node, true},
		{"with an empty endpoint where there is none now", service(``), `spec_version { index: 1 } spec { container { image: "web:1" } } endpoint { spec { } }`, node, false},
		{"on a node that meets the new constraints", service(`spec { task { placement { constraints: "node.hostname==a" } } }`), `spec_version { index: 1 } spec { container { image: "web:1" } }`, node, false},
		{"on a node that does not", service(`spec { task { placement { constraints: "node.hostname==b" } } }`), `spec_version { index: 1 } spec { container { image: "web:1" } }`, node, true},
		{"on no node, with new constraints", service(`spec { task { placement { constraints: "node.hostname==a" } } }`), `spec_version { index: 1 } spec { container { image: "web:1" } }`, nil, true},
		{"running, with other credentials to pull", service(`spec { task { container { pull_options { registry_auth: "x" } } } }`), `spec_version { index: 1 } status { state: RUNNING } desired_state: RUNNING spec { container { image: "web:1" } }`, node, false},
		{"not yet pulled, with other credentials to pull", service(`spec { task { container { pull_options { registry_auth: "x" } } } }`), `spec_version { index: 1 } status { state: PREPARING } desired_state: RUNNING spec { container { image: "web:1" } }`, node, true},
		{"without a spec", service(``), `spec_version { index: 1 }`, node, true},
	} {
		if got := model.Outdated(c.service, parse(&api.Task{}, c.task), c.node); got != c.want {
			t.Errorf("a task %s: outdated is %v, want %v", c.name, got, c.want)
		}
	}
	if model.Outdated(nil, nil, nil) {
		t.Error("nothing is outdated against nothing")
	}
}

func TestDefaultsAreWrittenOutIntoACopy(t *testing.T) {
	t.Parallel()
	spec := parse(&api.ServiceSpec{}, `task { container { image: "web" } } update { parallelism: 0 order: START_FIRST } replicated { }`)
	before := proto.Clone(spec)
	want := parse(&api.ServiceSpec{}, `
		task { container { image: "web" stop_grace_period { seconds: 10 } } restart { condition: ANY delay { seconds: 5 } } }
		update { parallelism: 0 order: START_FIRST monitor { seconds: 5 } }
		rollback { parallelism: 1 monitor { seconds: 5 } }
		endpoint { }
		replicated { }`)
	if got := model.WithDefaults(spec); !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if !proto.Equal(spec, before) {
		t.Errorf("the spec itself changed to %v", spec)
	}
	job := model.WithDefaults(parse(&api.ServiceSpec{}, `annotations { name: "job" } task { container { image: "web" } } global_job { }`))
	if err := model.CheckService(job); err != nil {
		t.Errorf("a job with its defaults written out is refused: %v", err)
	}
	model.WithDefaults(nil)
}

func TestATaskIsNamedAfterItsServiceAndSlot(t *testing.T) {
	t.Parallel()
	for want, task := range map[string]string{
		"web.3.t1":  `id: "t1" slot: 3 service_annotations { name: "web" }`,
		"web.n1.t1": `id: "t1" node_id: "n1" service_annotations { name: "web" }`,
		"mine":      `id: "t1" slot: 3 annotations { name: "mine" } service_annotations { name: "web" }`,
	} {
		if got := model.TaskName(parse(&api.Task{}, task)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAnUpdateOfASecretOrConfigChangesLabelsOnly(t *testing.T) {
	t.Parallel()
	old := &api.SecretSpec{Annotations: &api.Annotations{Name: "db"}, Data: []byte("a")}
	for _, c := range []struct {
		name string
		spec *api.SecretSpec
		good bool
	}{
		{"labels", &api.SecretSpec{Annotations: &api.Annotations{Name: "db", Labels: map[string]string{"a": "b"}}}, true},
		{"the same data", &api.SecretSpec{Annotations: &api.Annotations{Name: "db"}, Data: []byte("a")}, true},
		{"other data", &api.SecretSpec{Annotations: &api.Annotations{Name: "db"}, Data: []byte("b")}, false},
		{"another name", &api.SecretSpec{Annotations: &api.Annotations{Name: "bd"}}, false},
		{"nothing", &api.SecretSpec{}, false},
	} {
		config := &api.ConfigSpec{Annotations: c.spec.Annotations, Data: c.spec.Data}
		errs := []error{
			model.CheckSecretUpdate(old, c.spec),
			model.CheckConfigUpdate(&api.ConfigSpec{Annotations: old.Annotations, Data: old.Data}, config),
		}
		for _, err := range errs {
			if (err == nil) != c.good || err != nil && model.KindOf(err) != model.Invalid {
				t.Errorf("an update that sends %s: got %v", c.name, err)
			}
		}
	}
}

func TestReferencesOfATaskAreThoseOfItsContainerAndItsResources(t *testing.T) {
	t.Parallel()
	spec := parse(&api.TaskSpec{}, `
		container { secrets { secret_id: "s1" secret_name: "a" } configs { config_id: "c1" config_name: "b" } }
		resource_references { resource_id: "s2" resource_type: SECRET }
		resource_references { resource_id: "c2" resource_type: CONFIG }
		resource_references { resource_id: "v1" resource_type: VOLUME }`)
	var got []model.Reference
	for r := range model.SecretsOf(spec) {
		got = append(got, r)
	}
	for r := range model.ConfigsOf(spec) {
		got = append(got, r)
	}
	want := []model.Reference{{ID: "s1", Name: "a"}, {ID: "s2"}, {ID: "c1", Name: "b"}, {ID: "c2"}}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}
