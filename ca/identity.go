package ca

import (
	"sync"
	"sync/atomic"
	"time"

	"skep/api"
)

// Identity is what a node is at this moment: its certificate and the root it
// trusts. Replace changes both at once; connections that are open keep what they
// were made with, new ones take the new. It may be used by several goroutines.
type Identity struct {
	now   func() time.Time
	state atomic.Pointer[identityState]
	mu    sync.Mutex // one Replace at a time
	// saving is held while files and state are changed together.
	saving sync.Mutex
}

type identityState struct {
	root    *Root
	cert    *Certificate
	changed chan struct{}
}

// NewIdentity makes the identity of a node. now is the wall clock that
// certificates are held against; nil is time.Now.
func NewIdentity(root *Root, cert *Certificate, now func() time.Time) *Identity {
	if now == nil {
		now = time.Now
	}
	i := &Identity{now: now}
	i.state.Store(&identityState{root: root, cert: cert, changed: make(chan struct{})})
	return i
}

// Root returns the trusted root.
func (i *Identity) Root() *Root { return i.state.Load().root }

// Certificate returns the node's certificate.
func (i *Identity) Certificate() *Certificate { return i.state.Load().cert }

// NodeID returns the node's ID.
func (i *Identity) NodeID() string { return i.state.Load().cert.NodeID }

// ClusterID returns the cluster's ID.
func (i *Identity) ClusterID() string { return i.state.Load().cert.ClusterID }

// Role returns the role in the certificate.
func (i *Identity) Role() api.NodeRole { return i.state.Load().cert.Role }

// Changed returns a channel that is closed at the next Replace.
func (i *Identity) Changed() <-chan struct{} { return i.state.Load().changed }

// Replace makes root and cert the identity from now on and wakes whoever waits
// on Changed.
func (i *Identity) Replace(root *Root, cert *Certificate) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.state.Swap(&identityState{root: root, cert: cert, changed: make(chan struct{})})
	close(old.changed)
}
