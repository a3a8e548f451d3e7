package ca

import (
	"context"
	"log/slog"
	"time"

	"skep/api"
)

const (
	// The first renewal is tried between these parts of a certificate's lifetime.
	renewFrom, renewUntil = 0.5, 0.8

	retryFirst = 500 * time.Millisecond
	// A node that was told to renew does not wait longer than this between
	// attempts: somebody waits for its new role.
	retryToldMax = 8 * time.Second
	retryMax     = time.Hour
	// The more urgent it is, the more often: as many attempts are to fit into what is
	// left of the certificate. One that has expired is asked for as if told to.
	retryParts = 16
	// The wall clock may be set: how much of a lifetime is left is looked at
	// again at least this often.
	lookAgain = time.Hour
)

// RenewAt returns when a certificate is to be renewed: in 50–80 % of its
// lifetime, at from 0 to 1 says where. The hour by which certificates are
// backdated is not part of the lifetime.
func RenewAt(cert *Certificate, at float64) time.Time {
	begin := cert.NotBefore
	if cert.NotAfter.Sub(begin) > backdate {
		begin = begin.Add(backdate)
	}
	part := renewFrom + (renewUntil-renewFrom)*at
	return begin.Add(time.Duration(part * float64(cert.NotAfter.Sub(begin))))
}

// RenewerConfig is what a Renewer is made of. All but Log is required.
type RenewerConfig struct {
	Identity *Identity
	// Files is where a new certificate is stored before it is used.
	Files *Files
	// Obtain asks a manager for a new certificate.
	Obtain func(ctx context.Context) (*Root, *Certificate, error)
	// Rand returns numbers in [0, 1).
	Rand func() float64
	// Log takes renewals at info and failed attempts at warn; nil discards.
	Log *slog.Logger
}

// Renewer keeps the certificate of an identity valid and its role right.
type Renewer struct {
	cfg  RenewerConfig
	told chan api.NodeRole // the latest role asked for, if it was not taken yet
}

// NewRenewer returns a renewer; Run does the work.
func NewRenewer(cfg RenewerConfig) *Renewer {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Renewer{cfg: cfg, told: make(chan api.NodeRole, 1)}
}

// Renew asks for a renewal at once, repeated until the certificate has role. It
// never blocks. Being asked again for what is under way changes nothing.
func (r *Renewer) Renew(role api.NodeRole) {
	for {
		select {
		case r.told <- role:
			return
		default:
		}
		select { // make room: only the latest counts
		case <-r.told:
		default:
		}
	}
}

// Run renews until ctx ends and returns its error.
func (r *Renewer) Run(ctx context.Context) error {
	var (
		told  bool // renew now, and until the certificate has role want
		want  api.NodeRole
		retry time.Duration
		due   = r.due()
		timer = time.NewTimer(r.wait(due))
	)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case role := <-r.told:
			if told && role == want {
				continue // under way, with its own pace
			}
			told, want, retry = true, role, 0
		case <-timer.C:
		}
		if !told && r.valid() && r.cfg.Identity.now().Before(due) {
			timer.Reset(r.wait(due))
			continue
		}
		err := r.once(ctx)
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			retry = r.backOff(retry, told)
			r.cfg.Log.WarnContext(ctx, "the node's certificate was not renewed", slog.Any("error", err), slog.Duration("retry", retry),
				slog.Time("expires", r.cfg.Identity.Certificate().NotAfter))
			timer.Reset(retry)
		case told && r.cfg.Identity.Role() != want:
			retry = r.backOff(retry, told)
			timer.Reset(retry)
		default:
			told, retry, due = false, 0, r.due()
			timer.Reset(r.wait(due))
		}
	}
}

func (r *Renewer) once(ctx context.Context) error {
	asked := r.cfg.Identity.Root()
	root, cert, err := r.cfg.Obtain(ctx)
	if err != nil {
		return err
	}
	if err := cert.Valid(r.cfg.Identity.now()); err != nil {
		return err
	}
	if err := r.cfg.Identity.Take(r.cfg.Files, asked, root, cert); err != nil {
		return err
	}
	r.cfg.Log.InfoContext(ctx, "the node has a new certificate", slog.String("role", OU(cert.Role)), slog.Time("expires", cert.NotAfter))
	return nil
}

func (r *Renewer) due() time.Time { return RenewAt(r.cfg.Identity.Certificate(), r.cfg.Rand()) }

// valid reports whether the certificate is worth anything at this moment. One that is not yet is
// as bad as one that has expired: the clock was ahead when it was issued.
func (r *Renewer) valid() bool {
	return r.cfg.Identity.Certificate().Valid(r.cfg.Identity.now()) == nil
}

func (r *Renewer) wait(due time.Time) time.Duration {
	if !r.valid() {
		return 0
	}
	return min(max(due.Sub(r.cfg.Identity.now()), 0), lookAgain)
}

// backOff doubles, with up to a half taken off at random so that nodes that
// lost their managers together do not come back together.
func (r *Renewer) backOff(last time.Duration, told bool) time.Duration {
	limit := retryMax
	if left := r.cfg.Identity.Certificate().NotAfter.Sub(r.cfg.Identity.now()); left/retryParts < limit {
		limit = max(left/retryParts, retryToldMax)
	}
	if told || !r.valid() {
		limit = retryToldMax
	}
	next := retryFirst
	if last > 0 {
		next = 2 * last
	}
	next = min(next, limit)
	return next - time.Duration(r.cfg.Rand()*float64(next)/4)
}
