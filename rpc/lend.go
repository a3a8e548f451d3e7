package rpc

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// deadlineListener is a listener whose Accept can be told to end.
type deadlineListener interface {
	net.Listener
	SetDeadline(time.Time) error
}

// Loan is a listener that one server uses before another does. Close ends it and
// leaves what it was lent from open; Return makes that usable again.
type Loan struct {
	*arrivals
	from deadlineListener
}

// Lend lends a listener of this package to a server. Nobody else may use it until
// Return.
func Lend(l net.Listener) (*Loan, error) {
	from, ok := l.(deadlineListener)
	if !ok {
		return nil, fmt.Errorf("lend a listener: a %T cannot be told to end", l)
	}
	return &Loan{arrivals: newArrivals(&lent{deadlineListener: from}), from: from}, nil
}

// Return ends the loan, once the server that used it has ended.
func (l *Loan) Return() error { return l.from.SetDeadline(time.Time{}) }

type lent struct {
	deadlineListener
	closed atomic.Bool
}

func (l *lent) Accept() (net.Conn, error) {
	conn, err := l.deadlineListener.Accept()
	if !l.closed.Load() {
		return conn, err
	}
	if err == nil {
		_ = conn.Close() // who it is will try again, and reach the next server
	}
	return nil, net.ErrClosed
}

// Close ends an Accept that waits.
func (l *lent) Close() error {
	l.closed.Store(true)
	return l.SetDeadline(time.Unix(1, 0))
}
