package model

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/api/skep"
)

const (
	// RemovedNodeKind is the kind of the resources, and the name of the extension,
	// that remember removed nodes. The ID of such a resource is the node's.
	RemovedNodeKind = internalPrefix + "removed-node"
	// ForgetRemovedAfter is how long a removed node is remembered after its last
	// certificate has ended.
	ForgetRemovedAfter = 7 * 24 * time.Hour
	// internalPrefix begins the names of extensions that are Skep's own.
	internalPrefix = "skep."
)

// InternalKind reports whether a kind of resources is Skep's own: users may read
// its resources and not write them.
func InternalKind(kind string) bool { return strings.HasPrefix(kind, internalPrefix) }

// NewRemovedNode returns what is remembered of a node whose last certificate ends
// at expiry; nil is for ever.
func NewRemovedNode(nodeID string, expiry *timestamppb.Timestamp) (*api.Resource, error) {
	payload, err := anypb.New(&skep.RemovedNode{CertificateExpiry: expiry})
	if err != nil {
		return nil, Errorf(Internal, "remember that node %s was removed: %w", nodeID, err)
	}
	return &api.Resource{Id: nodeID, Annotations: &api.Annotations{Name: nodeID}, Kind: RemovedNodeKind, Payload: payload}, nil
}

// RemovedNodeExpiry returns when the last certificate of a removed node ends, nil
// when that is not known. removed is false when r does not remember a node.
func RemovedNodeExpiry(r *api.Resource) (expiry *timestamppb.Timestamp, removed bool) {
	if r.GetKind() != RemovedNodeKind {
		return nil, false
	}
	var node skep.RemovedNode
	if err := r.GetPayload().UnmarshalTo(&node); err != nil {
		return nil, true
	}
	return node.GetCertificateExpiry(), true
}

// WithRemovedNodes returns c with its list of refused certificates as the
// contract knows it: what it holds itself, and the nodes that resources remember.
// c is not changed.
func WithRemovedNodes(c *api.Cluster, resources func(yield func(*api.Resource) bool)) *api.Cluster {
	var refused map[string]*api.BlacklistedCertificate
	for r := range resources {
		expiry, removed := RemovedNodeExpiry(r)
		if !removed {
			continue
		}
		if refused == nil {
			refused = make(map[string]*api.BlacklistedCertificate)
			for cn, b := range c.GetBlacklistedCertificates() {
				refused[cn] = b
			}
		}
		refused[r.GetId()] = &api.BlacklistedCertificate{Expiry: expiry}
	}
	if refused == nil {
		return c
	}
	c = Shallow(c)
	c.BlacklistedCertificates = refused
	return c
}
