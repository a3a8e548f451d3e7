package ca

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/api"
	"skep/vfs"
)

// renewal is a node with a Renewer in a bubble. Each request is noted.
type renewal struct {
	s        swarm
	identity *Identity
	files    *Files
	renewer  *Renewer
	err      chan error

	mu      sync.Mutex
	asked   []time.Time
	role    api.NodeRole // of what is issued
	refused error        // or why nothing is
}

// answers says what the next requests are answered with.
func (r *renewal) answers(role api.NodeRole, refused error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.role, r.refused = role, refused
}

// requests returns when the node asked.
func (r *renewal) requests() []time.Time {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func newRenewal(t *testing.T, role api.NodeRole, refused error) *renewal {
	t.Helper()
	root, keyPEM, err := NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(root, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	r := &renewal{s: swarm{org: "cluster", root: root, signer: signer}, role: role, refused: refused, err: make(chan error, 1)}
	r.identity = NewIdentity(root, r.s.issue(t, "n", api.NodeRole_WORKER, time.Now(), 100*time.Hour), nil)
	r.files = NewFiles(vfs.NewMem(), certificates)
	r.renewer = NewRenewer(RenewerConfig{
		Identity: r.identity, Files: r.files, Rand: func() float64 { return 0.5 },
		Obtain: func(context.Context) (*Root, *Certificate, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asked = append(r.asked, time.Now())
			if r.refused != nil {
				return nil, nil, r.refused
			}
			return root, r.s.issue(t, "n", r.role, time.Now(), 100*time.Hour), nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { r.err <- r.renewer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.err; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	return r
}

func TestACertificateIsRenewedInTimeAgainAndAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := newRenewal(t, api.NodeRole_WORKER, nil)
		time.Sleep(64 * time.Hour)
		if len(r.requests()) != 0 {
			t.Fatalf("renewed at %v, before its time", r.requests()[0].Sub(began))
		}
		time.Sleep(70 * time.Hour)
		if len(r.requests()) != 2 {
			t.Fatalf("renewed %d times in 134 h, want 2", len(r.requests()))
		}
		root, cert, err := r.files.Load(time.Now())
		if err != nil || root.Digest() != r.s.root.Digest() || !cert.NotAfter.Equal(r.identity.Certificate().NotAfter) {
			t.Errorf("on disk: %v, %v", cert, err)
		}
	})
}

func TestARenewalThatFailsIsTriedAgainLessAndLessOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := newRenewal(t, 0, errors.New("no manager"))
		time.Sleep(80 * time.Hour)
		asked := r.requests()
		if n := len(asked); n < 10 || n > 60 {
			t.Fatalf("asked %d times in 15 h", n)
		}
		first := asked[1].Sub(asked[0])
		last := asked[len(asked)-1].Sub(asked[len(asked)-2])
		if first > time.Second || last < 30*time.Minute || last > retryMax {
			t.Errorf("first pause %s, last %s, began at %s", first, last, asked[0].Sub(began))
		}
		r.answers(api.NodeRole_WORKER, nil)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := r.identity.Certificate().NotAfter; got.Before(began.Add(150 * time.Hour)) {
			t.Errorf("still the old certificate, until %s", got)
		}
	})
}

func TestANodeThatIsToldRenewsAtOnceUntilItHasItsRole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t, api.NodeRole_WORKER, nil)
		time.Sleep(time.Hour)
		r.renewer.Renew(api.NodeRole_MANAGER)
		if len(r.requests()) != 1 {
			t.Fatalf("asked %d times, want once and at once", len(r.requests()))
		}
		for range 50 { // the session repeats what it says
			r.renewer.Renew(api.NodeRole_MANAGER)
			synctest.Wait()
		}
		if len(r.requests()) != 1 {
			t.Fatalf("asked %d times for the same wish", len(r.requests()))
		}
		time.Sleep(time.Minute)
		if n := len(r.requests()); n < 8 || n > 20 {
			t.Errorf("asked %d times in a minute", n)
		}
		r.answers(api.NodeRole_MANAGER, nil)
		time.Sleep(retryToldMax)
		synctest.Wait()
		if r.identity.Role() != api.NodeRole_MANAGER {
			t.Errorf("role %s", r.identity.Role())
		}
		n := len(r.requests())
		time.Sleep(time.Hour)
		if len(r.requests()) != n {
			t.Errorf("asked %d times more once it had its role", len(r.requests())-n)
		}
	})
}

func TestAClockThatIsSetIsNoticedWithinAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t, api.NodeRole_WORKER, nil)
		_ = r
		// The renewer looks again each hour rather than sleeping for days.
		if got := r.renewer.wait(time.Now().Add(100 * time.Hour)); got != lookAgain {
			t.Errorf("it sleeps %s", got)
		}
	})
}

// A manager whose clock is ahead issues itself what is worth nothing when the clock is right again.
func TestACertificateThatIsNotValidYetIsReplacedWithinSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t, api.NodeRole_WORKER, errors.New("nobody answers"))
		ahead := r.s.issue(t, "n", api.NodeRole_WORKER, time.Now().Add(1000*time.Hour), 100*time.Hour)
		r.identity.Replace(r.identity.Root(), ahead)
		time.Sleep(2 * time.Hour) // it is noticed within an hour, and tried in vain for one more
		before := r.requests()
		if len(before) < 2 || before[len(before)-1].Sub(before[len(before)-2]) > retryToldMax {
			t.Fatalf("it asked at %v, want it to ask every few seconds", before)
		}
		r.answers(api.NodeRole_WORKER, nil)
		time.Sleep(retryToldMax)
		if err := r.identity.Certificate().Valid(time.Now()); err != nil {
			t.Errorf("it has a certificate that is worth nothing: %v", err)
		}
		asked := len(r.requests())
		time.Sleep(10 * time.Hour)
		if got := len(r.requests()); got != asked {
			t.Errorf("it asked %d times more, though its certificate is valid", got-asked)
		}
	})
}

// A certificate that is about to end is asked for more often, one that has ended as
// if somebody waited for it.
func TestTheCloserTheEndTheMoreOftenARenewalIsTried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t, api.NodeRole_WORKER, errors.New("no manager answers"))
		end := r.identity.Certificate().NotAfter
		time.Sleep(time.Until(end.Add(-time.Hour)))
		before := len(r.requests())
		time.Sleep(2 * time.Hour)
		asked := r.requests()
		if n := len(asked) - before; n < 400 || n > 700 {
			t.Errorf("asked %d times in the last hour and the next, want about 500", n)
		}
		for i := before + 1; i < len(asked); i++ {
			if gap := asked[i].Sub(asked[i-1]); gap > time.Hour/12 {
				t.Errorf("%s passed without a request", gap)
			}
		}
	})
}
