package cli

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// interval is how often is asked how far something is that no watch tells of.
const interval = 250 * time.Millisecond

// operation is what goes on in a swarm after a command has begun it.
type operation struct {
	// name is what lines of progress begin with, what what is waited for: "node two is
	// a manager".
	name, what string
	// see is the command that shows how far it is.
	see   string
	flags waitFlags
	// look says how far it is.
	look func(context.Context) (step, error)
}

// step is how far an operation is.
type step struct {
	text      string
	done, all int // parts, if they are counted
	reached   bool
}

func (s step) String() string    { return s.text }
func (s step) parts() (int, int) { return s.done, s.all }

// await asks how far o is until it is done, cannot get there any more, or the
// time is up. Interrupting it stops only the waiting. A manager that goes away is
// waited for.
func (a *app) await(ctx context.Context, o operation) error {
	waiting, cancel := context.WithTimeout(ctx, o.flags.timeout)
	defer cancel()
	p := newReporter(a.Err, o.name)
	defer p.end()
	var last step
	for {
		now, err := o.look(waiting)
		switch {
		case err == nil:
			last = now
			p.report(last)
			if last.reached {
				return nil
			}
		case status.Code(err) == codes.Unavailable && waiting.Err() == nil:
			last.text = "waits for a manager: " + a.text(err)
			p.report(last)
		// The manager may notice the deadline before we do.
		case waiting.Err() != nil, status.Code(err) == codes.DeadlineExceeded: // said below
		default:
			return err
		}
		select {
		case <-time.After(interval):
			continue
		case <-waiting.Done():
		}
		if ctx.Err() != nil {
			return exitf(ExitInterrupted, "interrupted; the operation goes on in the background, see '%s'", o.see)
		}
		return exitf(ExitTimeout, "it is not so after %s that %s: %s\nThe operation goes on, see '%s'.", o.flags.timeout, o.what, last, o.see)
	}
}

// absent reports whether err says that a server does not know the method.
func absent(err error) bool { return status.Code(err) == codes.Unimplemented }
