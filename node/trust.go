package node

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"skep/ca"
	"skep/client"
	"skep/model"
)

// followPause is between two looks for a root that managers may have and this node
// does not trust yet.
const followPause = 5 * time.Second

// keepIdentity does what this node's certificate and root need over time, until ctx
// ends: renewal, the way to a new root, and telling the managers of both.
func (n *node) keepIdentity(ctx context.Context, run func(func() error)) {
	run(func() error { return ignoreCanceled(n.renewer.Run(ctx)) })
	run(func() error { n.followRoot(ctx); return nil })
	run(func() error { n.tellIdentity(ctx); return nil })
}

// tellIdentity has the managers told whenever the certificate or the root is another.
func (n *node) tellIdentity(ctx context.Context) {
	for {
		changed := n.identity.Changed()
		select {
		case <-changed:
			n.agent.Refresh()
		case <-ctx.Done():
			return
		}
	}
}

// obtain gets this node a new certificate in the way that its old one allows. One that
// is valid is shown. One that has expired no manager takes: the node shows that it
// has the key. A manager that reaches no other takes what its own log allows, for as
// long as it needs to be let in: that is how managers that were all down for too long
// find each other again, and how one that is alone starts.
func (n *node) obtain(ctx context.Context) (*ca.Root, *ca.Certificate, error) {
	if n.expired() == nil {
		return n.joiner().Renew(ctx, n.identity)
	}
	if root, cert, err := n.files.Load(n.cfg.Now()); err == nil && cert.Valid(n.cfg.Now()) == nil {
		// The clock was wrong and is right again: what this node issued itself meanwhile
		// was never written.
		n.identity.Replace(root, cert)
		return n.joiner().Renew(ctx, n.identity)
	}
	select {
	case <-n.playing: // a manager has to know first which address is its own
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	m := n.manager.Load()
	root, cert, err := n.recover(ctx)
	if err == nil || m == nil || model.KindOf(err) == model.Denied {
		return root, cert, err
	}
	root, cert, itself := m.SelfIssue(ctx)
	if itself != nil {
		return nil, nil, errors.Join(err, itself)
	}
	n.cfg.Log.WarnContext(ctx, "this manager's certificate expired and no other manager renews it; it has issued itself one for an hour",
		slog.String("node.id", cert.NodeID), slog.Any("error", err))
	n.identity.Replace(root, cert)
	return n.joiner().Renew(ctx, n.identity)
}

// expired says what is wrong with the certificate in time, nil if it is valid.
func (n *node) expired() error { return n.identity.Certificate().Valid(n.cfg.Now()) }

// recover asks the other managers for a certificate in place of one that has expired.
func (n *node) recover(ctx context.Context) (*ca.Root, *ca.Certificate, error) {
	own := ""
	if addr := n.addr.Load(); addr != nil {
		own = *addr
	}
	others := n.otherManagers(own)()
	if len(others) == 0 {
		return nil, nil, model.Errorf(model.Unavailable, "%w; there is no other manager to ask for a new one", n.expired())
	}
	j := n.joiner()
	j.Managers = client.NewManagers(others...)
	root, cert, err := j.Recover(ctx, n.identity)
	if err != nil {
		return nil, nil, errors.Join(err, n.expired()) // the kind is that of the answer
	}
	return root, cert, nil
}

// trust makes a root that a manager sent the trusted one, if it is this swarm's.
func (n *node) trust(bundle []byte) {
	changed, err := n.identity.Trust(n.files, bundle)
	switch {
	case full(err):
		n.cfg.Log.Error("the swarm's new root certificate is not trusted yet, since the disk of the state directory is full; free some space", slog.String("dir", n.dir.path), slog.Any("error", err))
	case err != nil:
		n.cfg.Log.Warn("the root certificate that a manager sent is not trusted", slog.Any("error", err))
	case changed:
		n.cfg.Log.Info("this node trusts the swarm's new root certificate", slog.String("digest", ca.HashOf(bundle)))
	}
}

// followRoot looks, until ctx ends, for a new root whenever a manager turned out to be
// none that the trusted root vouches for: this node was away when the root was replaced.
func (n *node) followRoot(ctx context.Context) {
	for {
		select {
		case <-n.foreign:
		case <-ctx.Done():
			return
		}
		next, err := n.joiner().FollowRoot(ctx, n.identity)
		switch {
		case err == nil:
			n.trust(next.Root().PEM())
		case ctx.Err() == nil:
			n.cfg.Log.WarnContext(ctx, "a manager's certificate comes from a root that this node does not trust, and no manager shows one that it could", slog.Any("error", err))
		}
		timer := time.NewTimer(followPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// heeding are credentials that notice managers whom the trusted root does not vouch
// for.
type heeding struct {
	credentials.TransportCredentials
	foreign chan<- struct{}
}

// ClientHandshake is that of the credentials within.
func (h heeding) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		select {
		case h.foreign <- struct{}{}:
		default:
		}
	}
	return conn, info, err
}

// Clone returns h: it has no state of its own.
func (h heeding) Clone() credentials.TransportCredentials { return h }
