package ca

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"skep/api"
	"skep/vfs"
)

// renewal is a node with a Renewer in a bubble. Its certificates come from
// answer, and each request is noted.
type renewal struct {
	s        swarm
	identity *Identity
	files    *Files
	renewer  *Renewer
	asked    []time.Time
	answer   func() (api.NodeRole, error)
	err      chan error
}

func newRenewal(t *testing.T, answer func() (api.NodeRole, error)) *renewal {
	t.Helper()
	root, keyPEM, err := NewRoot(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(root, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	r := &renewal{s: swarm{org: "cluster", root: root, signer: signer}, answer: answer, err: make(chan error, 1)}
	r.identity = NewIdentity(root, r.s.issue(t, "n", api.NodeRole_WORKER, time.Now(), 100*time.Hour), nil)
	r.files = NewFiles(vfs.NewMem(), certificates)
	r.renewer = NewRenewer(RenewerConfig{
		Identity: r.identity, Files: r.files, Rand: func() float64 { return 0.5 },
		Obtain: func(context.Context) (*Root, *Certificate, error) {
			r.asked = append(r.asked, time.Now())
			role, err := r.answer()
			if err != nil {
				return nil, nil, err
			}
			return root, r.s.issue(t, "n", role, time.Now(), 100*time.Hour), nil
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
		r := newRenewal(t, func() (api.NodeRole, error) { return api.NodeRole_WORKER, nil })
		time.Sleep(64 * time.Hour)
		synctest.Wait()
		if len(r.asked) != 0 {
			t.Fatalf("renewed at %v, before its time", r.asked[0].Sub(began))
		}
		time.Sleep(70 * time.Hour)
		synctest.Wait()
		if len(r.asked) != 2 {
			t.Fatalf("renewed %d times in 134 h, want 2", len(r.asked))
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
		r := newRenewal(t, func() (api.NodeRole, error) { return 0, errors.New("no manager") })
		time.Sleep(80 * time.Hour)
		synctest.Wait()
		if n := len(r.asked); n < 10 || n > 60 {
			t.Fatalf("asked %d times in 15 h", n)
		}
		first := r.asked[1].Sub(r.asked[0])
		last := r.asked[len(r.asked)-1].Sub(r.asked[len(r.asked)-2])
		if first > time.Second || last < 30*time.Minute || last > retryMax {
			t.Errorf("first pause %s, last %s, began at %s", first, last, r.asked[0].Sub(began))
		}
		r.answer = func() (api.NodeRole, error) { return api.NodeRole_WORKER, nil }
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
		role := api.NodeRole_WORKER
		r := newRenewal(t, func() (api.NodeRole, error) { return role, nil })
		time.Sleep(time.Hour)
		r.renewer.Renew(api.NodeRole_MANAGER)
		synctest.Wait()
		if len(r.asked) != 1 {
			t.Fatalf("asked %d times, want once and at once", len(r.asked))
		}
		for range 50 { // the session repeats what it says
			r.renewer.Renew(api.NodeRole_MANAGER)
			synctest.Wait()
		}
		if len(r.asked) != 1 {
			t.Fatalf("asked %d times for the same wish", len(r.asked))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(r.asked); n < 8 || n > 20 {
			t.Errorf("asked %d times in a minute", n)
		}
		role = api.NodeRole_MANAGER
		time.Sleep(retryToldMax)
		synctest.Wait()
		if r.identity.Role() != api.NodeRole_MANAGER {
			t.Errorf("role %s", r.identity.Role())
		}
		n := len(r.asked)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(r.asked) != n {
			t.Errorf("asked %d times more once it had its role", len(r.asked)-n)
		}
	})
}

func TestAClockThatIsSetIsNoticedWithinAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t, func() (api.NodeRole, error) { return api.NodeRole_WORKER, nil })
		_ = r
		// The renewer looks again each hour rather than sleeping for days.
		if got := r.renewer.wait(time.Now().Add(100 * time.Hour)); got != lookAgain {
			t.Errorf("it sleeps %s", got)
		}
	})
}
