package cli

import (
	"testing"

	"github.com/spf13/pflag"

	"skep/api"
	"skep/api/skep"
)

func TestAProcessThatBecomesAContainerLeavesNoSecretBehind(t *testing.T) {
	t.Parallel()
	d := newDraft(&api.ServiceSpec{}, nil, nil)
	d.process = &skep.ProcessSpec{Command: "web", Secrets: []*skep.FileReference{{Id: "secret1"}}}
	if err := d.pack(); err != nil {
		t.Fatal(err)
	}
	if got := len(d.spec.Task.ResourceReferences); got != 1 {
		t.Fatalf("a process with a secret has %d references, want 1", got)
	}
	set := pflag.NewFlagSet("update", pflag.ContinueOnError)
	flags := newSpecFlags(set)
	if err := set.Parse([]string{"--image", "nginx"}); err != nil {
		t.Fatal(err)
	}
	d = newDraft(d.spec, nil, nil)
	if err := flags.apply(t.Context(), d, nil); err != nil {
		t.Fatal(err)
	}
	if d.spec.Task.GetContainer() == nil || len(d.spec.Task.ResourceReferences) != 0 {
		t.Errorf("got the task %v, want a container without references", d.spec.Task)
	}
}
