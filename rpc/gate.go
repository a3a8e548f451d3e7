package rpc

import (
	"context"
	"sync"

	"skep/model"
)

// Gate knows which requests are under way, so that a manager can end without failing one:
// servers that share a gate let no new ones in once it is closed. Requests that are answered
// by any manager alone (raft's own, health) and streams pass beside it. The zero Gate is open.
type Gate struct {
	mu     sync.Mutex
	inside int
	idle   chan struct{} // nil while the gate is open; closed when nobody is inside any more
}

// Close lets nobody in any more, and returns when those inside are answered, or ctx ends. Who
// comes later is told that nothing was done, and to try again. Call it once.
func (g *Gate) Close(ctx context.Context) {
	g.mu.Lock()
	g.idle = make(chan struct{})
	if g.inside == 0 {
		close(g.idle)
	}
	g.mu.Unlock()
	select {
	case <-g.idle:
	case <-ctx.Done():
	}
}

// enter lets a request in. It is to leave when it is answered.
func (g *Gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.idle != nil {
		return model.Errorf(model.Unavailable, "this manager is stopping, nothing was done: ask another one, or this one when it is back")
	}
	g.inside++
	return nil
}

func (g *Gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.idle != nil {
		close(g.idle)
	}
}
