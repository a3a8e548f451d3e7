package client

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/model"
)

const (
	attempts     = 5
	attemptPause = 2 * time.Second
	// A manager that a thousand nodes join at once answers late, and giving up
	// would only have it shake hands again. One that is not there at all is
	// noticed by the connection, much earlier.
	callTimeout = 20 * time.Second
	// Roots and certificates are a few KB. Whoever answers at the first call is not
	// known to be a manager.
	maxAnswer = 1 << 20
)

// Joiner asks managers for roots and certificates. Managers is required.
type Joiner struct {
	// Managers are whom to ask.
	Managers *Managers
	// Version is what this node says it runs; managers tell ours from stock
	// engines by it.
	Version string
	// Now is the wall clock; nil is time.Now.
	Now func() time.Time
	// Dial makes connections; nil is TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Log takes attempts that failed at warn; nil discards.
	Log *slog.Logger
}

// Join makes a key and returns the identity that a manager gives for token:
// DownloadRoot, then RequestCertificate.
func (j *Joiner) Join(ctx context.Context, token ca.Token, availability api.NodeSpec_Availability) (*ca.Root, *ca.Certificate, error) {
	root, err := j.DownloadRoot(ctx, token.Digest)
	if err != nil {
		return nil, nil, err
	}
	cert, err := j.RequestCertificate(ctx, root, token, availability)
	return root, cert, err
}

// DownloadRoot fetches the root of the swarm from a manager that is not trusted
// yet and returns it if its digest is the one of the join token.
func (j *Joiner) DownloadRoot(ctx context.Context, digest string) (*ca.Root, error) {
	var root *ca.Root
	err := j.download(ctx, "download the root certificate", func(bundle []byte) (err error) {
		got := ca.DigestOf(bundle)
		if subtle.ConstantTimeCompare([]byte(got), []byte(digest)) != 1 {
			return model.Errorf(model.Denied,
				"remote CA does not match fingerprint: the manager's root is %s, the join token is for %s: it belongs to another swarm, or the root was replaced since: print a new join command there", got, digest)
		}
		root, err = ca.ParseRoot(bundle, j.now())
		return err
	})
	return root, err
}

// download hands the root certificates that a manager gives to f, which says
// whether to trust them: the manager itself is not trusted yet.
func (j *Joiner) download(ctx context.Context, what string, f func(bundle []byte) error) error {
	return j.try(ctx, what, func() credentials.TransportCredentials { return ca.JoinCredentials(nil, j.Now) },
		func(ctx context.Context, m Clients) error {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			resp, err := m.CA.GetRootCACertificate(ctx, &api.GetRootCACertificateRequest{})
			if err != nil {
				return err
			}
			return f(resp.GetCertificate())
		})
}

// RequestCertificate asks for the certificate of a new node and waits for it.
func (j *Joiner) RequestCertificate(ctx context.Context, root *ca.Root, token ca.Token, availability api.NodeSpec_Availability) (*ca.Certificate, error) {
	key, err := ca.NewKey()
	if err != nil {
		return nil, err
	}
	return j.request(ctx, root, key, func() credentials.TransportCredentials { return ca.JoinCredentials(root, j.Now) }, "",
		j.issue(&api.IssueNodeCertificateRequest{Token: token.Reveal(), Availability: availability}))
}

// Renew asks for a new certificate for a node that has one and waits for it. The
// role it comes with is the managers' decision. Should the managers have another
// root by now, it is the one that is returned, if it vouches for the certificate
// that the node has.
func (j *Joiner) Renew(ctx context.Context, identity *ca.Identity) (*ca.Root, *ca.Certificate, error) {
	key, err := ca.NewKey()
	if err != nil {
		return nil, nil, err
	}
	return j.trusting(ctx, identity, func(identity *ca.Identity) (*ca.Certificate, error) {
		return j.request(ctx, identity.Root(), key, func() credentials.TransportCredentials { return identity.ClientCredentials(ca.CAName) }, identity.NodeID(),
			j.issue(&api.IssueNodeCertificateRequest{}))
	})
}

// Recover asks for a new certificate for a node whose own has expired, which it
// shows by its key, and waits for it. The key stays. The managers know the node for
// 90 days after that; one that has a new root is trusted as in Renew.
func (j *Joiner) Recover(ctx context.Context, identity *ca.Identity) (*ca.Root, *ca.Certificate, error) {
	key := identity.Certificate().Key()
	return j.trusting(ctx, identity, func(identity *ca.Identity) (*ca.Certificate, error) {
		root := identity.Root()
		return j.request(ctx, root, key, func() credentials.TransportCredentials { return ca.JoinCredentials(root, j.Now) }, identity.NodeID(),
			func(ctx context.Context, m Clients, csr []byte) (string, error) {
				resp, err := m.Recovery.Renew(ctx, &skep.RecoveryRequest{NodeId: identity.NodeID(), Csr: csr})
				return resp.GetNodeId(), err
			})
	})
}

// trusting asks as identity, and if the managers turn out to have a root that it
// does not trust, once more as one that does, provided that the new root vouches for
// the node's certificate.
func (j *Joiner) trusting(ctx context.Context, identity *ca.Identity, ask func(*ca.Identity) (*ca.Certificate, error)) (*ca.Root, *ca.Certificate, error) {
	root := identity.Root()
	cert, err := ask(identity)
	var foreign x509.UnknownAuthorityError
	if !errors.As(err, &foreign) {
		return root, cert, err
	}
	next, down := j.FollowRoot(ctx, identity)
	if down != nil {
		return nil, nil, errors.Join(err, down)
	}
	if cert, err = ask(next); err != nil {
		return nil, nil, err
	}
	return next.Root(), cert, nil
}

// FollowRoot returns identity as it is under the root that the managers have now: one
// that vouches for the node's own certificate is the swarm's. The managers themselves
// need not be trusted. The error is of kind Denied when the root does not vouch.
func (j *Joiner) FollowRoot(ctx context.Context, identity *ca.Identity) (*ca.Identity, error) {
	var next *ca.Identity
	err := j.download(ctx, "download the new root certificate", func(bundle []byte) error {
		root, err := ca.ParseRoot(bundle, j.now())
		if err != nil {
			return err
		}
		next, err = identity.Trusting(root)
		return err
	})
	return next, err
}

// issue returns the call that makes a request to the service NodeCA.
func (j *Joiner) issue(r *api.IssueNodeCertificateRequest) func(context.Context, Clients, []byte) (string, error) {
	return func(ctx context.Context, m Clients, csr []byte) (string, error) {
		r.Csr = csr
		resp, err := m.NodeCA.IssueNodeCertificate(metadata.AppendToOutgoingContext(ctx, ca.VersionMetadata, j.Version), r)
		return resp.GetNodeId(), err
	}
}

// request asks once and waits for the answer, at another manager if the first
// goes away. The node must be nodeID unless that is empty.
func (j *Joiner) request(ctx context.Context, root *ca.Root, key ca.Key, secure func() credentials.TransportCredentials, nodeID string,
	ask func(ctx context.Context, m Clients, csr []byte) (string, error),
) (*ca.Certificate, error) {
	csr, err := key.Request()
	if err != nil {
		return nil, err
	}
	var issued string // the node that the request was taken for
	var cert *ca.Certificate
	err = j.try(ctx, "request a certificate", secure, func(ctx context.Context, m Clients) error {
		if issued == "" {
			call, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			var err error
			if issued, err = ask(call, m, csr); err != nil {
				return err
			}
		}
		if issued == "" || nodeID != "" && issued != nodeID {
			return model.Errorf(model.Denied, "the manager gave a certificate for node %q, it was asked for node %q", issued, nodeID)
		}
		chain, err := await(ctx, m, issued, csr)
		if err != nil {
			return err
		}
		if cert, err = ca.NewCertificate(root, chain, key); err != nil {
			return err
		}
		if cert.NodeID != issued {
			return model.Errorf(model.Denied, "the certificate is for node %q, it was asked for node %q", cert.NodeID, issued)
		}
		return cert.Valid(j.now())
	})
	if err != nil {
		return nil, err
	}
	return cert, nil
}

// await returns the chain that was issued for a request. The manager answers
// when there is one; a call that outlasts its time is made again.
func await(ctx context.Context, m Clients, nodeID string, csr []byte) ([]byte, error) {
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		resp, err := m.NodeCA.NodeCertificateStatus(call, &api.NodeCertificateStatusRequest{NodeId: nodeID})
		cancel()
		switch {
		case err != nil && status.Code(err) == codes.DeadlineExceeded && ctx.Err() == nil:
			continue
		case err != nil:
			return nil, err
		}
		switch resp.GetStatus().GetState() {
		case api.IssuanceStatus_ISSUED, api.IssuanceStatus_ROTATE:
			if bytes.Equal(resp.GetCertificate().GetCsr(), csr) {
				return resp.GetCertificate().GetCertificate(), nil
			}
		case api.IssuanceStatus_FAILED:
			return nil, model.Errorf(model.Invalid, "the manager refused to sign: %s", resp.GetStatus().GetErr())
		default:
		}
		// An answer for an older request of this node: ours is on its way.
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try calls f with a manager, and with others while that may help.
func (j *Joiner) try(ctx context.Context, what string, secure func() credentials.TransportCredentials, f func(context.Context, Clients) error) error {
	var tried []string
	for attempt := 1; ; attempt++ {
		addr, ok := j.Managers.Pick(rand.Float64(), tried...)
		if !ok {
			return model.Errorf(model.Invalid, "%s: no manager is known: give one with --join-addr", what)
		}
		tried = append(tried, addr)
		err := j.ask(ctx, addr, secure(), f)
		if err == nil {
			j.Managers.Succeeded(addr)
			return nil
		}
		err = fmt.Errorf("%s from the manager at %s: %w", what, addr, err)
		if !mayHelp(err) || ctx.Err() != nil {
			return err
		}
		j.Managers.Failed(addr)
		if attempt == attempts {
			return err
		}
		if j.Log != nil {
			j.Log.WarnContext(ctx, "a manager did not answer, trying again", slog.Any("error", err), slog.Int("attempt", attempt))
		}
		select {
		case <-time.After(attemptPause):
		case <-ctx.Done():
			return err
		}
	}
}

func (j *Joiner) ask(ctx context.Context, addr string, secure credentials.TransportCredentials, f func(context.Context, Clients) error) error {
	handshake := note(secure)
	options := []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer))}
	if j.Dial != nil {
		options = append(options, grpc.WithContextDialer(j.Dial))
	}
	conn, err := Dial(addr, handshake, options...)
	if err != nil {
		return model.Errorf(model.Invalid, "%w", err)
	}
	err = f(ctx, New(conn))
	if status.Code(err) == codes.Unavailable && handshake.err() != nil {
		err = handshake.err()
	}
	return errors.Join(explain(err), conn.Close())
}

// explain turns what the manager answered into an error of ours, with its words.
func explain(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch st.Code() {
	case codes.InvalidArgument:
		return model.Errorf(model.Invalid, "%s", st.Message())
	case codes.FailedPrecondition:
		return model.Errorf(model.Precondition, "%s", st.Message())
	case codes.PermissionDenied:
		return model.Errorf(model.Denied, "%s", st.Message())
	case codes.NotFound:
		return model.Errorf(model.NotFound, "%s", st.Message())
	case codes.Unimplemented:
		return model.Errorf(model.Unimplemented, "%s: is that a manager of a swarm?", st.Message())
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted:
		return model.Errorf(model.Unavailable, "%s: check the address, and that the manager runs and can be reached from here", st.Message())
	default:
		return model.Errorf(model.Internal, "%s", st.Message())
	}
}

// mayHelp reports whether another attempt, or another manager, may go better.
func mayHelp(err error) bool {
	switch model.KindOf(err) {
	case model.Invalid, model.Precondition, model.Denied, model.NotFound, model.Unimplemented:
		return false
	default:
		return true
	}
}

func (j *Joiner) now() time.Time {
	if j.Now != nil {
		return j.Now()
	}
	return time.Now()
}
