package model_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

func TestWhatANodeReportsIsNoNewsToIt(t *testing.T) {
	t.Parallel()
	node := parse(&api.Node{}, `id: "n" spec { availability: ACTIVE }`)
	for change, want := range map[string]bool{
		``:                                true,
		`status { state: DOWN }`:          true,
		`description { hostname: "h" }`:   true,
		`meta { version { index: 7 } }`:   true,
		`spec { availability: DRAIN }`:    false,
		`role: MANAGER`:                   false,
		`attachments { addresses: "::" }`: false,
	} {
		other := proto.CloneOf(node)
		proto.Merge(other, parse(&api.Node{}, change))
		if model.SameToItself(node, other) != want || model.SameToItself(other, node) != want {
			t.Errorf("with %q: want same %v", change, want)
		}
	}
	if !model.SameToItself(nil, nil) || model.SameToItself(node, nil) || model.SameToItself(nil, node) {
		t.Error("no node is the same as no node only")
	}
}
