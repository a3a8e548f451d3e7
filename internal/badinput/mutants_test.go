package badinput_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"skep/api"
	"skep/api/skep"
	"skep/internal/badinput"
)

func TestMutantsDifferInOnePlaceEachAndLeaveTheOriginal(t *testing.T) {
	t.Parallel()
	payload, err := anypb.New(&skep.ProcessSpec{Command: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	m := &api.TaskSpec{
		Runtime: &api.TaskSpec_Generic{Generic: &api.GenericRuntimeSpec{Kind: "process", Payload: payload}},
		Restart: &api.RestartPolicy{Delay: durationpb.New(5)},
	}
	before := proto.Clone(m)
	seen := map[string]bool{}
	for what := range badinput.Mutants(m) {
		seen[what] = true
	}
	if !proto.Equal(m, before) {
		t.Errorf("the original became %v", m)
	}
	for _, want := range []string{
		"generic missing",
		"generic.kind missing",
		`generic.kind ""`,
		"generic.kind of 1048576 bytes",
		`generic.payload.(command "")`,
		"generic.payload.(health empty)",
		"restart.delay missing",
		"restart.delay.seconds -1",
		"restart.condition 2147483647",
		"container empty",
		"container.secrets with an empty one",
		"container.secrets[0].file empty",
		`container.labels with key ""`,
		"placement.platforms[0].os of 1048576 bytes",
		"resources.limits.nano_cpus 9223372036854775807",
	} {
		if !seen[want] {
			t.Errorf("there is no mutant %q", want)
		}
	}
	for what := range seen {
		if strings.Contains(what, "xxx") {
			t.Errorf("a description repeats a huge text: %.80s", what)
		}
	}
}

func TestMutantsStopWhenAsked(t *testing.T) {
	t.Parallel()
	n := 0
	for range badinput.Mutants(&api.ServiceSpec{}) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("got %d mutants, want 3", n)
	}
}
