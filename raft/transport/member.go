package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/api/skep"
)

const (
	// A member that refuses connections is tried again after minRetry, then less and less
	// often up to maxRetry; at once after minRetry when there is a message for it.
	minRetry = 100 * time.Millisecond
	maxRetry = time.Second
	// An attempt that hangs is given up after connectTimeout, but another is begun beside it
	// after raceAfter: a link may be slow, or have lost what the first one sent.
	raceAfter      = 700 * time.Millisecond
	connectTimeout = 5 * time.Second
	resolveTimeout = time.Second
)

// member is another member.
type member struct {
	t      *Transport
	id     uint64
	nodeID string
	queue  *queue
	addr   atomic.Pointer[string]
	moved  chan struct{} // has one element when addr has changed
	hints  chan string   // has the last address at which the member may be, if it is new
	link   atomic.Pointer[link]
	// learned is where else the member may be. Only run's goroutine has it.
	learned learned

	snapshots *snapshots
}

// learned is an address that is not from the group's record, but from the member itself, or from
// one that found it. It counts as long as that record is what it was then.
type learned struct{ addr, basis string }

func newMember(t *Transport, m *api.RaftMember) *member {
	p := &member{t: t, id: m.GetRaftId(), nodeID: m.GetNodeId(), queue: newQueue(), moved: make(chan struct{}, 1), hints: make(chan string, 1), snapshots: newSnapshots()}
	p.addr.Store(new(m.GetAddr()))
	return p
}

func (p *member) setAddr(addr string) {
	if old := p.addr.Swap(&addr); *old == addr {
		return
	}
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// hint says where the member may be. Whoever says it last is heard.
func (p *member) hint(addr string) {
	for {
		select {
		case p.hints <- addr:
			return
		default:
		}
		select {
		case <-p.hints:
		default:
		}
	}
}

// places returns where the member may be, the likeliest first.
func (p *member) places() []string {
	record := *p.addr.Load()
	places := []string{record}
	if p.learned.addr != "" && p.learned.addr != record && p.learned.basis == record {
		places = []string{p.learned.addr, record}
	}
	for _, addr := range p.t.elsewhere() {
		if !slices.Contains(places, addr) {
			places = append(places, addr)
		}
	}
	return places
}

// run keeps a connection to the member and sends over it until ctx ends.
func (p *member) run(ctx context.Context) {
	var helpers sync.WaitGroup
	defer helpers.Wait()
	helpers.Go(func() { p.runSnapshots(ctx) })
	for {
		l := p.connect(ctx)
		if l == nil {
			return
		}
		p.link.Store(l)
		p.t.cfg.Log.Info("connected to a manager", "node.id", p.nodeID, "addr", l.addr)
		p.t.cfg.Host.Told(p.id, l.had)
		p.t.cfg.Host.ReportReachable(p.id)
		err := p.serve(ctx, l)
		p.link.Store(nil)
		l.close()
		if ctx.Err() != nil {
			return
		}
		p.t.metrics.broken.Inc()
		p.t.cfg.Log.Warn("the connection to a manager broke; it is made again", "node.id", p.nodeID, "addr", l.addr, "error", err)
		p.failed(err)
	}
}

// failed drops what waits, and tells the host of what an error means.
func (p *member) failed(err error) {
	p.queue.drop()
	p.t.cfg.Host.ReportUnreachable(p.id)
	if isRemoved(err) {
		p.t.cfg.Host.Removed()
	}
}

// isRemoved reports whether a member answered that this one was removed.
func isRemoved(err error) bool {
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.NotFound && s.Message() == TextRemoved
}

// attempt is one try to connect, by its number.
type attempt struct {
	number int
	link   *link
	err    error
}

// connecting is the state of connect.
type connecting struct {
	*member
	results  chan attempt
	resolved chan string
	next     *time.Timer // when the next attempt begins
	begun    time.Time   // when the last one did
	backoff  time.Duration
	stops    map[int]context.CancelCauseFunc // of the attempts under way
	asking   context.CancelFunc              // for the address, or nil
	fresh    int                             // how many attempts there were when places was last new
	tries    int
	said     bool // the log knows
}

// connect tries until a connection stands, which it returns, or ctx ends.
func (p *member) connect(ctx context.Context) (won *link) {
	c := connecting{
		member: p, results: make(chan attempt), resolved: make(chan string),
		next: time.NewTimer(0), backoff: minRetry, stops: map[int]context.CancelCauseFunc{},
	}
	defer c.end()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.moved:
			c.fresh = c.tries
			c.begin(ctx)
		case addr := <-c.hints:
			c.learn(ctx, addr)
		case <-c.queue.wake:
			if len(c.stops) == 0 && time.Since(c.begun) >= minRetry {
				c.begin(ctx)
			}
		case <-c.next.C:
			if len(c.stops) > 0 {
				c.ask(ctx)
				c.failed(nil) // what waits is too old to be worth sending
			}
			c.begin(ctx)
		case addr := <-c.resolved:
			c.asking()
			c.asking = nil
			c.learn(ctx, addr)
		case a := <-c.results:
			stop := c.stops[a.number]
			delete(c.stops, a.number)
			if a.err == nil {
				return a.link
			}
			stop(a.err)
			c.lost(ctx, a.err)
		}
	}
}

// end stops all that connect began, but for the attempt that it returns.
func (c *connecting) end() {
	c.next.Stop()
	for _, stop := range c.stops {
		stop(errors.New("another attempt was faster"))
	}
	for range c.stops {
		if a := <-c.results; a.link != nil {
			a.link.close()
		}
	}
	if c.asking != nil {
		c.asking()
		<-c.resolved
	}
}

// learn looks for the member at an address that was told, if that is news.
func (c *connecting) learn(ctx context.Context, addr string) {
	is := learned{addr, *c.addr.Load()}
	if addr == "" || addr == is.basis || addr == c.t.cfg.Addr || is == c.learned {
		return
	}
	c.learned = is
	c.fresh = c.tries
	c.begin(ctx)
}

// begin begins an attempt.
func (c *connecting) begin(ctx context.Context) {
	basis := *c.addr.Load()
	places := c.places()
	addr := places[(c.tries-c.fresh)%len(places)]
	c.tries++
	number := c.tries
	c.begun = time.Now()
	c.next.Reset(jittered(raceAfter))
	ctx, stop := context.WithCancelCause(ctx)
	c.stops[number] = stop
	go func() {
		l, err := c.t.open(ctx, stop, c.member, addr)
		if l != nil {
			l.basis = basis
		}
		c.results <- attempt{number, l, err}
	}()
}

// lost goes on after an attempt that failed.
func (c *connecting) lost(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if !c.said {
		c.said = true
		c.t.cfg.Log.Warn("a manager cannot be reached; it is tried again", "node.id", c.nodeID, "addr", *c.addr.Load(), "error", err)
	}
	c.failed(err)
	c.ask(ctx)
	if len(c.stops) == 0 {
		c.next.Reset(jittered(c.backoff))
		c.backoff = min(2*c.backoff, maxRetry)
	}
}

// ask asks another member for the address.
func (c *connecting) ask(ctx context.Context) {
	if c.asking != nil {
		return
	}
	ctx, c.asking = context.WithTimeout(ctx, resolveTimeout)
	go func() { c.resolved <- c.t.resolve(ctx, c.id) }()
}

// jittered returns between a half of d and all of it.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

var errMoved = errors.New("the manager has another address")

// serve sends what is queued until the connection breaks or ctx ends.
func (p *member) serve(ctx context.Context, l *link) error {
	if l.stock {
		return p.serveStock(ctx, l)
	}
	w := newWatch(p.t.cfg.Timeout, func() {
		l.cancel(fmt.Errorf("it acknowledged nothing for %s", p.t.cfg.Timeout))
	})
	defer w.stop()
	ended := make(chan error, 1)
	go func() {
		for {
			r, err := l.stream.Recv()
			if err != nil {
				ended <- err
				close(ended)
				return
			}
			w.answered(r.GetAck())
			// Whatever was reported meanwhile, such as a queue that was full, is over.
			p.t.cfg.Host.ReportReachable(p.id)
		}
	}()
	defer func() {
		l.cancel(errors.New("the connection is given up"))
		for range ended {
		}
	}()
	idle := time.NewTicker(p.t.cfg.Timeout / 2)
	defer idle.Stop()
	for {
		if addr := *p.addr.Load(); addr != l.addr && addr != l.basis {
			return errMoved
		}
		request, bytes := p.batch()
		if request == nil {
			select {
			case <-p.queue.wake:
				continue
			case <-p.moved:
				continue
			case <-idle.C:
				request = &skep.MessagesRequest{}
			case err := <-ended:
				return l.why(err)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		request.Ack = w.sending(bytes, bytes == 0)
		if l.stream.Send(request) != nil {
			return l.why(<-ended)
		}
		p.t.metrics.sent.Add(float64(len(request.GetMessages())))
	}
}

// batch takes the next batch and about how many bytes it has; nil if nothing waits.
func (p *member) batch() (*skep.MessagesRequest, int) {
	messages, hashes, bytes := p.queue.take()
	request := &skep.MessagesRequest{Messages: messages, Hashes: hashes}
	if p.queue.untold() {
		request.Had = p.t.cfg.Host.Had()
	}
	if len(messages)+len(hashes)+len(request.GetHad()) == 0 {
		return nil, 0
	}
	return request, bytes + len(request.GetHad())*hadBytes
}
