package model

import (
	"net/netip"
	"strings"

	"skep/api"
)

// Constraint is one placement constraint, parsed: what of a node is compared,
// with which value, and whether they must be equal or must differ.
type Constraint struct {
	attribute attribute
	label     string // the label's own name, for the two label attributes
	value     string
	differ    bool
	address   netip.Prefix // attribute nodeIP: the value as an address or network
	text      string
}

// attribute is what of a node a constraint compares.
type attribute uint8

const (
	noAttribute attribute = iota // a key that no node has: never met
	nodeID
	nodeHostname
	nodeIP
	nodeRole
	nodeOS
	nodeArch
	nodeLabel
	engineLabel
)

const (
	nodeLabelPrefix   = "node.labels."
	engineLabelPrefix = "engine.labels."
)

// ParseConstraints parses placement constraints of the form key==value or
// key!=value. The error has kind Invalid and names the constraint and what is
// wrong with it. A well-formed constraint with a key that is not known parses,
// and is met by no node.
func ParseConstraints(texts []string) ([]Constraint, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	parsed := make([]Constraint, 0, len(texts))
	for _, text := range texts {
		c, err := parseConstraint(text)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, c)
	}
	return parsed, nil
}

func parseConstraint(text string) (Constraint, error) {
	key, value, found := strings.Cut(text, "==")
	differ := false
	if !found {
		key, value, found = strings.Cut(text, "!=")
		differ = true
	}
	if !found {
		return Constraint{}, Errorf(Invalid, "constraint %q has no operator: write key==value or key!=value", text)
	}
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !validConstraintKey(key) {
		return Constraint{}, Errorf(Invalid,
			"constraint %q: key %q is not valid: it needs at least two characters, a letter or _ first, then letters, digits, '-', '_' or '.'", text, key)
	}
	if !validConstraintValue(value) {
		return Constraint{}, Errorf(Invalid,
			"constraint %q: value %q is not valid: it may not be empty and may hold letters, digits, spaces and :-_.*()?+[]\\^$|/", text, value)
	}
	c := Constraint{value: value, differ: differ, text: text}
	c.attribute, c.label = attributeOf(key)
	if c.attribute == nodeIP {
		c.address = parseAddressOrNetwork(value)
	}
	return c, nil
}

// attributeOf finds what a key names. Keys are compared without regard to case,
// the names of labels with it.
func attributeOf(key string) (attribute, string) {
	switch lower := strings.ToLower(key); {
	case lower == "node.id":
		return nodeID, ""
	case lower == "node.hostname":
		return nodeHostname, ""
	case lower == "node.ip":
		return nodeIP, ""
	case lower == "node.role":
		return nodeRole, ""
	case lower == "node.platform.os":
		return nodeOS, ""
	case lower == "node.platform.arch":
		return nodeArch, ""
	case strings.HasPrefix(lower, nodeLabelPrefix):
		return nodeLabel, key[len(nodeLabelPrefix):]
	case strings.HasPrefix(lower, engineLabelPrefix):
		return engineLabel, key[len(engineLabelPrefix):]
	}
	return noAttribute, ""
}

// Matches reports whether node meets the constraint. What a node does not have
// compares as the empty string; a key that no node has, and an address that is
// none, are never met, whichever the operator.
func (c Constraint) Matches(node *api.Node) bool {
	switch c.attribute {
	case nodeID:
		return c.compare(node.GetId())
	case nodeHostname:
		return c.compare(node.GetDescription().GetHostname())
	case nodeIP:
		return c.compareAddress(node.GetStatus().GetAddr())
	case nodeRole:
		return c.compare(node.GetRole().String())
	case nodeOS:
		return c.compare(node.GetDescription().GetPlatform().GetOs())
	case nodeArch:
		return c.compare(node.GetDescription().GetPlatform().GetArchitecture())
	case nodeLabel:
		return c.compare(node.GetSpec().GetAnnotations().GetLabels()[c.label])
	case engineLabel:
		return c.compare(node.GetDescription().GetEngine().GetLabels()[c.label])
	}
	return false
}

// String returns the constraint as it was written.
func (c Constraint) String() string { return c.text }

func (c Constraint) compare(have string) bool {
	return strings.EqualFold(have, c.value) != c.differ
}

func (c Constraint) compareAddress(have string) bool {
	if !c.address.IsValid() {
		return false
	}
	addr, err := netip.ParseAddr(have)
	inside := err == nil && c.address.Contains(addr.Unmap().WithZone(""))
	return inside != c.differ
}

// parseAddressOrNetwork returns the network that text names, an address being a
// network of one; the zero Prefix when it names none.
func parseAddressOrNetwork(text string) netip.Prefix {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	if network, err := netip.ParsePrefix(text); err == nil {
		return network.Masked()
	}
	return netip.Prefix{}
}

func validConstraintKey(key string) bool {
	if len(key) < 2 || !letter(key[0]) && key[0] != '_' {
		return false
	}
	for i := 1; i < len(key); i++ {
		if !letter(key[i]) && !digit(key[i]) && strings.IndexByte("-_.", key[i]) < 0 {
			return false
		}
	}
	return true
}

func validConstraintValue(value string) bool {
	if value == "" {
		return false
	}
	for i := range len(value) {
		if !letter(value[i]) && !digit(value[i]) && strings.IndexByte(":-_ \t\n\f\r.*()?+[]\\^$|/", value[i]) < 0 {
			return false
		}
	}
	return true
}

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

// Anchor returns what a node must have to meet the constraint, in a form that
// Anchors lists for nodes that have it, so that constraints can be looked up by
// what a node has. There is none for a constraint that asks for a difference or
// a network.
func (c Constraint) Anchor() (anchor string, ok bool) {
	if c.differ || c.attribute == nodeIP {
		return "", false
	}
	return c.attribute.anchor(c.label, c.value), true
}

// Anchors calls yield with the anchor of every constraint that node can meet
// and that has one and whose value is not empty.
func Anchors(node *api.Node, yield func(anchor string)) {
	platform := node.GetDescription().GetPlatform()
	yield(nodeID.anchor("", node.GetId()))
	yield(nodeHostname.anchor("", node.GetDescription().GetHostname()))
	yield(nodeRole.anchor("", node.GetRole().String()))
	yield(nodeOS.anchor("", platform.GetOs()))
	yield(nodeArch.anchor("", platform.GetArchitecture()))
	for label, value := range node.GetSpec().GetAnnotations().GetLabels() {
		yield(nodeLabel.anchor(label, value))
	}
	for label, value := range node.GetDescription().GetEngine().GetLabels() {
		yield(engineLabel.anchor(label, value))
	}
}

func (a attribute) anchor(label, value string) string {
	return string(rune('a'+a)) + label + "\x00" + foldCase(value)
}

// foldCase maps strings that strings.EqualFold holds equal to one.
func foldCase(s string) string { return strings.ToLower(strings.ToUpper(s)) }
