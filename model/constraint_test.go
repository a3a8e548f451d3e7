package model

import (
	"strings"
	"testing"

	"skep/api"
)

func TestAConstraintComparesOneAttributeOfANode(t *testing.T) {
	t.Parallel()
	node := &api.Node{
		Id:   "n1",
		Role: api.NodeRole_MANAGER,
		Spec: &api.NodeSpec{Annotations: &api.Annotations{Labels: map[string]string{"Zone": "A", "zone": "b"}}},
		Description: &api.NodeDescription{
			Hostname: "Web-1",
			Platform: &api.Platform{Os: "linux", Architecture: "x86_64"},
			Engine:   &api.EngineDescription{Labels: map[string]string{"disk": "ssd fast"}},
		},
		Status: &api.NodeStatus{Addr: "10.1.2.3"},
	}
	for text, want := range map[string]bool{
		"node.id==N1":                       true,
		"node.id!=n1":                       false,
		" node.hostname == web-1 ":          true,
		"NODE.HOSTNAME==web-2":              false,
		"node.role==manager":                true,
		"node.role!=manager":                false,
		"node.platform.os==Linux":           true,
		"node.platform.arch==x86_64":        true,
		"node.platform.arch!=aarch64":       true,
		"node.labels.Zone==a":               true,
		"node.labels.zone==a":               false,
		"node.labels.none!=a":               true,
		"node.labels.none==a":               false,
		"engine.labels.disk==ssd fast":      true,
		"Engine.Labels.disk!=hdd":           true,
		"node.ip==10.1.2.3":                 true,
		"node.ip==::ffff:10.1.2.3":          true,
		"node.ip!=10.1.2.3":                 false,
		"node.ip==10.1.0.0/16":              true,
		"node.ip!=10.1.9.9/16":              false,
		"node.ip==10.2.0.0/16":              false,
		"node.ip==not-an-address":           false,
		"node.ip!=not-an-address":           false,
		"node.color==red":                   false,
		"node.color!=red":                   false,
		"node.labels.Zone==a|b":             false,
		"node.hostname==web*":               false,
		"node.platform.arch==amd64":         false,
		"engine.labels.disk==ssd\tfast":     false,
		"node.hostname==Web-1":              true,
		"node.labels.com.example.Zone!=b/c": true,
	} {
		cs, err := ParseConstraints([]string{text})
		if err != nil {
			t.Errorf("ParseConstraints(%q): %v", text, err)
			continue
		}
		if got := cs[0].Matches(node); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
		if anchor, ok := cs[0].Anchor(); ok && want && !has(node, anchor) {
			t.Errorf("%q is met by a node that does not list its anchor %q", text, anchor)
		}
		if cs[0].String() != text {
			t.Errorf("%q prints as %q", text, cs[0])
		}
	}
}

func has(node *api.Node, anchor string) bool {
	found := false
	Anchors(node, func(a string) { found = found || a == anchor })
	return found
}

func TestANodeWithoutDescriptionComparesAsEmpty(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"node.hostname==a": false, "node.hostname!=a": true,
		"node.ip==10.0.0.1": false, "node.ip!=10.0.0.1": true,
		"node.labels.a!=b": true, "node.role==worker": true,
	} {
		cs, err := ParseConstraints([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		if got := cs[0].Matches(&api.Node{}); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestAMalformedConstraintSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                "no operator",
		"node.id":         "no operator",
		"node.id=a":       "no operator",
		"==a":             "key",
		"n==a":            "key",
		"1node==a":        "key",
		"node id==a":      "key",
		"nöde.id==a":      "key",
		"node.id==":       "value",
		"node.id!= ":      "value",
		"node.id==a;b":    "value",
		"node.id==ä":      "value",
		"node.id!=a==b":   "key",
		"node.id==a==b":   "value",
		"node.id==a\x00b": "value",
	} {
		_, err := ParseConstraints([]string{"node.role==worker", text})
		if KindOf(err) != Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one of kind Invalid about its %s", text, err, want)
		}
	}
}

func FuzzParsingAConstraintNeverPanics(f *testing.F) {
	f.Add("node.ip==10.0.0.0/8")
	f.Add("node.labels.==x")
	f.Fuzz(func(t *testing.T, text string) {
		cs, err := ParseConstraints([]string{text})
		if err != nil {
			return
		}
		cs[0].Matches(&api.Node{})
	})
}
