package template_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"skep/api"
	"skep/api/skep"
	"skep/model"
	"skep/template"
)

func data() template.Data {
	task := &api.Task{
		Id: "t1", ServiceId: "s1", Slot: 3, NodeId: "n1",
		ServiceAnnotations: &api.Annotations{Name: "web", Labels: map[string]string{"tier": "front"}},
	}
	return template.New(task, template.NodeOf("n1", &api.NodeDescription{
		Hostname: "host1", Platform: &api.Platform{Architecture: "x86_64", Os: "linux"},
	}))
}

func TestATemplateSeesServiceNodeAndTask(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain": "plain",
		"{{.Service.Name}}/{{.Service.ID}}/{{.Service.Labels.tier}}":       "web/s1/front",
		"{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}}":                       "t1 web.3.t1 3",
		"{{.Node.ID}} {{.Node.Hostname}}":                                  "n1 host1",
		"{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}":            "linux/x86_64",
		`{{join "-" .Service.Name .Task.Slot}}`:                            "web-3",
		`{{if eq .Task.Slot "3"}}third{{end}}`:                             "third",
		`{{index .Service.Labels "tier"}}{{with .Service.Labels}}!{{end}}`: "front!",
	} {
		got, err := data().Expand(text)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestATaskOfAGlobalServiceHasItsNodeForASlot(t *testing.T) {
	t.Parallel()
	d := template.New(&api.Task{Id: "t1", NodeId: "n1", ServiceAnnotations: &api.Annotations{Name: "log"}}, template.Node{})
	if got, err := d.Expand("{{.Task.Slot}} {{.Task.Name}}"); err != nil || got != "n1 log.n1.t1" {
		t.Fatalf("got %q, %v; want %q", got, err, "n1 log.n1.t1")
	}
}

func TestWhatDoesNotExistIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"{{.Service.Labels.nosuch}}",
		"{{.Service.Port}}",
		"{{.Task.Slot",
		"{{env \"HOME\"}}",
		`{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`,
		`{{define "a"}}{{printf "%099999d" 1}}{{end}}` + strings.Repeat(`{{template "a"}}`, 30),
	} {
		if got, err := data().Expand(text); err == nil {
			t.Errorf("%s: got %q, want an error", text, got)
		}
	}
}

func TestProcessExpandsArgumentsEnvironmentAndDirectory(t *testing.T) {
	t.Parallel()
	spec := &skep.ProcessSpec{
		Command:   "/bin/{{.Service.Name}}",
		Args:      []string{"--name={{.Task.Name}}", "-v"},
		Env:       []string{"HOST={{.Node.Hostname}}", "{{NOT}}=x", "ALONE"},
		Directory: "/srv/{{.Task.Slot}}",
	}
	before := proto.Clone(spec)
	got, err := data().Process(spec)
	if err != nil {
		t.Fatal(err)
	}
	want := &skep.ProcessSpec{
		Command:   "/bin/{{.Service.Name}}",
		Args:      []string{"--name=web.3.t1", "-v"},
		Env:       []string{"HOST=host1", "{{NOT}}=x", "ALONE"},
		Directory: "/srv/3",
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !proto.Equal(spec, before) {
		t.Errorf("the spec passed in changed to %v", spec)
	}
}

func TestContainerExpandsEnvironmentMountsAndHostname(t *testing.T) {
	t.Parallel()
	spec := &api.ContainerSpec{
		Image:    "{{.Service.Name}}",
		Env:      []string{"SLOT={{.Task.Slot}}"},
		Hostname: "{{.Service.Name}}-{{.Task.Slot}}",
		Mounts: []*api.Mount{{
			Source: "vol-{{.Task.Slot}}", Target: "/data/{{.Service.Name}}",
			VolumeOptions: &api.Mount_VolumeOptions{
				Labels:       map[string]string{"of": "{{.Service.ID}}"},
				DriverConfig: &api.Driver{Name: "local", Options: map[string]string{"path": "/x/{{.Node.ID}}"}},
			},
		}, {Source: "/etc"}},
	}
	before := proto.Clone(spec)
	got, err := data().Container(spec)
	if err != nil {
		t.Fatal(err)
	}
	want := &api.ContainerSpec{
		Image:    "{{.Service.Name}}",
		Env:      []string{"SLOT=3"},
		Hostname: "web-3",
		Mounts: []*api.Mount{{
			Source: "vol-3", Target: "/data/web",
			VolumeOptions: &api.Mount_VolumeOptions{
				Labels:       map[string]string{"of": "s1"},
				DriverConfig: &api.Driver{Name: "local", Options: map[string]string{"path": "/x/n1"}},
			},
		}, {Source: "/etc"}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !proto.Equal(spec, before) {
		t.Errorf("the spec passed in changed to %v", spec)
	}
}

func TestCheckFindsABrokenTemplateBeforeTheServiceExists(t *testing.T) {
	t.Parallel()
	process := func(p *skep.ProcessSpec) *api.TaskSpec {
		payload, err := anypb.New(p)
		if err != nil {
			t.Fatal(err)
		}
		return &api.TaskSpec{Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "process", Payload: payload}}}
	}
	container := func(c *api.ContainerSpec) *api.TaskSpec {
		return &api.TaskSpec{Runtime: &api.TaskSpec_Container{Container: c}}
	}
	mount := func(m *api.Mount) *api.TaskSpec { return container(&api.ContainerSpec{Mounts: []*api.Mount{m}}) }
	const broken = "{{.Service.Labels.nosuch}}"
	options := map[string]string{"a": "fine", "b": broken}
	for name, c := range map[string]struct {
		task *api.TaskSpec
		want string
	}{
		"no task":              {nil, ""},
		"no runtime":           {&api.TaskSpec{}, ""},
		"another generic":      {&api.TaskSpec{Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Payload: &anypb.Any{TypeUrl: "x"}}}}, ""},
		"broken payload":       {&api.TaskSpec{Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Payload: &anypb.Any{TypeUrl: "x/skep.v1.ProcessSpec", Value: []byte{0xff}}}}}, "decode"},
		"good process":         {process(&skep.ProcessSpec{Args: []string{"{{.Service.Labels.tier}}"}}), ""},
		"argument":             {process(&skep.ProcessSpec{Args: []string{"ok", broken}}), "argument 2"},
		"environment":          {process(&skep.ProcessSpec{Env: []string{"A=" + broken}}), "variable A"},
		"directory":            {process(&skep.ProcessSpec{Directory: broken}), "directory"},
		"container":            {container(&api.ContainerSpec{Hostname: "{{.Node.Hostname}}"}), ""},
		"container env":        {container(&api.ContainerSpec{Env: []string{"A=" + broken}}), "variable A"},
		"container hostname":   {container(&api.ContainerSpec{Hostname: broken}), "hostname"},
		"mount source":         {mount(&api.Mount{Source: broken}), "mount 1: source"},
		"mount target":         {mount(&api.Mount{Target: broken}), "mount 1: target"},
		"volume label":         {mount(&api.Mount{VolumeOptions: &api.Mount_VolumeOptions{Labels: options}}), "label b"},
		"volume driver option": {mount(&api.Mount{VolumeOptions: &api.Mount_VolumeOptions{DriverConfig: &api.Driver{Options: options}}}), "option b"},
	} {
		err := template.Check(&api.ServiceSpec{
			Annotations: &api.Annotations{Name: "web", Labels: map[string]string{"tier": "front"}},
			Task:        c.task,
		})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: got %v, want no error", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || model.KindOf(err) != model.Invalid):
			t.Errorf("%s: got %v, want an invalid-argument error with %q", name, err, c.want)
		}
	}
}

func TestATemplatedConfigReadsTheOtherFilesOfItsTask(t *testing.T) {
	t.Parallel()
	files := template.Files{
		Secret: func(target string) ([]byte, error) {
			if target == "password" {
				return []byte("hunter2"), nil
			}
			return nil, errors.New("the task has no secret " + target)
		},
		Config: func(string) ([]byte, error) { return []byte("conf"), nil },
		Env:    []string{"LANG=C"},
	}
	golang := &api.Driver{Name: "golang"}
	for _, c := range []struct {
		driver        *api.Driver
		content, want string
		sensitive     bool
		err           string
	}{
		{nil, "{{as it is", "{{as it is", false, ""},
		{golang, "{{.Task.Slot}} {{config \"c\"}} {{env \"LANG\"}}", "3 conf C", false, ""},
		{golang, "{{secret \"password\"}}", "hunter2", true, ""},
		{golang, "{{secret \"nosuch\"}}", "", false, "no secret nosuch"},
		{golang, "{{env \"NOSUCH\"}}", "", false, "no environment variable"},
		{golang, "{{range secret \"password\"}}{{end}}", "", false, "cannot be expanded"},
		{golang, "{{env (secret \"password\")}}", "", false, "cannot be expanded"},
		{golang, "{{index .Service.hunter2}}", "", false, "cannot be expanded"},
		{golang, "{{range 100000}}" + strings.Repeat("hunter2", 50) + "{{end}}", "", false, "larger than 2 MiB"},
		{golang, "{{range 1000000000000}}{{end}}", "", false, "too long"},
		{golang, "hunter2 {{hunter2", "", false, "cannot be parsed"},
		{&api.Driver{Name: "jinja"}, "", "", false, "jinja"},
		{&api.Driver{}, "", "", false, "not known"},
	} {
		got, sensitive, err := data().Payload(c.driver, []byte(c.content), files)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: got error %v, want one with %q and nothing secret", c.content, err, c.err)
			}
			continue
		}
		if err != nil || string(got) != c.want || sensitive != c.sensitive {
			t.Errorf("%s: got %q, sensitive %v, %v; want %q, %v", c.content, got, sensitive, err, c.want, c.sensitive)
		}
	}
}

func TestWhatWouldTakeForEverIsAnError(t *testing.T) {
	t.Parallel()
	doubled := strings.Repeat("{{$x = join \"\" $x $x}}", 40)
	nested := "{{template \"0\"}}"
	for i := range 40 {
		nested += fmt.Sprintf("{{define \"%d\"}}{{template \"%d\"}}{{template \"%d\"}}{{end}}", i, i+1, i+1)
	}
	for name, text := range map[string]string{
		"a loop over a number":      "{{range 1000000000000}}{{end}}",
		"its other branch":          "{{range 0}}{{else}}{{range 1000000000000}}{{end}}{{end}}",
		"loops in loops":            "{{range 100000}}{{range 100000}}{{if true}}{{end}}{{end}}{{end}}",
		"a long body":               "{{range 100000}}" + strings.Repeat("{{$y := eq 1 1}}", 1000) + "{{end}}",
		"templates in templates":    nested + "{{define \"40\"}}{{end}}",
		"a text that doubles":       "{{$x := \"xxxxxxxx\"}}" + doubled,
		"joined with itself":        "{{$x := \"xxxxxxxx\"}}" + strings.ReplaceAll(doubled, "join \"\" $x $x", "join $x \"\" $x \"\""),
		"printed twice":             "{{$x := \"xxxxxxxx\"}}" + strings.ReplaceAll(doubled, "join \"\"", "print"),
		"printed by a format":       "{{$x := \"xxxxxxxx\"}}" + strings.ReplaceAll(doubled, "join \"\"", "printf \"%[1]s%[1]s\""),
		"escaped again and again":   "{{$x := `\\`}}" + strings.ReplaceAll(doubled, "join \"\" $x $x", "js $x"),
		"very wide":                 "{{$x := printf \"" + strings.Repeat("%999999d", 1000) + "\" 1}}",
		"as wide as its argument":   "{{$x := printf \"" + strings.Repeat("%[1]*[1]d", 1000) + "\" 999999}}",
		"a payment that gives back": "{{range 1000000000000}}{{pay -1000000}}{{end}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := data().Expand(text); err == nil {
				t.Fatalf("got %d bytes, want an error", len(got))
			}
		})
	}
}

func TestTheTextsOfASpecShareWhatTheyMayCost(t *testing.T) {
	t.Parallel()
	spec := &skep.ProcessSpec{Args: slices.Repeat([]string{"{{range 200000}}{{end}}"}, 1000)}
	if _, err := data().Process(spec); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Fatalf("got %v, want an error that says that it takes too long", err)
	}
}

func TestUsefulTemplatesAreCheap(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{{range 3}}{{.}},{{end}}`:                                           "0,1,2,",
		`{{printf "%s:%05.1f|%*d|%q" .Service.Name 2.5 4 7 "x"}}`:            `web:002.5|   7|"x"`,
		`{{print .Task.Slot 1 2}} {{println "a" "b"}}{{html "<"}}{{js "'"}}`: "31 2 a b\n&lt;\\'",
		`{{urlquery "a b"}}{{define "t"}}[{{.}}]{{end}}{{template "t" "x"}}`: "a+b[x]",
		`{{range $k, $v := .Service.Labels}}{{$k}}={{$v}}{{break}}{{end}}`:   "tier=front",
	} {
		if got, err := data().Expand(text); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
}

// FuzzExpand holds that no text of a user can do worse than an error.
func FuzzExpand(f *testing.F) {
	f.Add("{{.Service.Name}}")
	f.Add(`{{join "," .Task.ID "x"}}{{range .Service.Labels}}{{.}}{{end}}`)
	f.Add(`{{range 1000000000}}{{$x := printf "%99999d" 1}}{{end}}`)
	f.Add(`{{define "a"}}{{template "a"}}{{end}}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := data().Expand(text)
		if err == nil && len(got) > template.MaxOutput && strings.Contains(text, "{{") {
			t.Fatalf("%d bytes came out of %q", len(got), text)
		}
	})
}
