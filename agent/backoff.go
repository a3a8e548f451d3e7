package agent

import "time"

const (
	backoffStep = 100 * time.Millisecond
	backoffMost = 8 * time.Second
)

// backoff spreads the attempts of many agents that lost the same manager: the
// bound doubles with each failure, the delay is anywhere below it. The zero
// value is that of an agent whose session was a success.
type backoff struct{ bound time.Duration }

// next returns how long to wait; random is in [0, 1).
func (b *backoff) next(random float64) time.Duration {
	b.bound = min(backoffStep+2*b.bound, backoffMost)
	return time.Duration(random * float64(b.bound))
}
