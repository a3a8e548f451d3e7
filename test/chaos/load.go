package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/client"
	"skep/internal/linear"
)

const (
	// opTimeout ends a request that nobody answers. Its outcome is not known then.
	opTimeout = 10 * time.Second
	// thinkTime is between two requests of a client: the machine is small, and what
	// is measured is how soon requests go through again, not how many.
	thinkTime = 20 * time.Millisecond
	// registers are written by all clients at once, and are others in each round, which
	// keeps their histories short enough to judge.
	registers = 32
	label     = "value"
)

// Load is clients that write and read through several managers, and what they were told.
type Load struct {
	History linear.History

	sockets []string
	clients int
	seed    uint64
	created atomic.Pointer[[]register]
	failed  sync.Map // text of an error → *atomic.Int64

	mu      sync.Mutex
	after   time.Time
	waiting chan time.Time
}

type register struct{ name, id string }

// Run lets the clients do what they do until ctx ends.
func (l *Load) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, l.clients)
	for i := range l.clients {
		wg.Go(func() { errs <- l.client(ctx, i) })
	}
	wg.Wait()
	for range l.clients {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// Next returns when a write was acknowledged that began after now. Only one caller can
// wait at a time.
func (l *Load) Next() <-chan time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := make(chan time.Time, 1)
	l.after, l.waiting = time.Now(), waiting
	return waiting
}

func (l *Load) acknowledged(began time.Time) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != nil && began.After(l.after) {
		l.waiting <- now
		l.waiting = nil
	}
}

// Renew makes the registers of a round. It needs a healthy swarm.
func (l *Load) Renew(ctx context.Context, round string, control api.ControlClient) error {
	out := make([]register, registers)
	for i := range out {
		name := fmt.Sprintf("register-%s-%d", round, i)
		for {
			p := l.History.Begin(linear.Op{Client: l.clients, Key: name, Kind: linear.Create, Value: name})
			c, err := create(ctx, control, name, name)
			l.end(p, c, err)
			if err == nil {
				out[i] = register{name, c.GetId()}
				break
			}
			if !undone(err) {
				return fmt.Errorf("create %s: %w", name, err)
			}
			if err := pause(ctx, thinkTime); err != nil {
				return err
			}
		}
	}
	l.created.Store(&out)
	return nil
}

func (l *Load) client(ctx context.Context, id int) error {
	conn, err := client.DialSocket(l.sockets[id%len(l.sockets)])
	if err != nil {
		return err
	}
	defer conn.Close()
	control := api.NewControlClient(conn)
	random := rand.New(rand.NewPCG(l.seed, uint64(id)))
	known := make(map[string]uint64) // versions, as far as this client knows
	for n := 0; pause(ctx, thinkTime) == nil; n++ {
		all := *l.created.Load()
		r := all[random.IntN(len(all))]
		value := fmt.Sprintf("%d-%d", id, n)
		switch dice := random.IntN(10); {
		case dice == 0:
			l.do(ctx, linear.Op{Client: id, Key: "created-" + value, Kind: linear.Create, Value: value}, func(ctx context.Context) (*api.Config, error) {
				return create(ctx, control, "created-"+value, value)
			})
		case dice < 5 || known[r.name] == 0:
			c := l.do(ctx, linear.Op{Client: id, Key: r.name, Kind: linear.Read}, func(ctx context.Context) (*api.Config, error) {
				a, err := control.GetConfig(ctx, &api.GetConfigRequest{ConfigId: r.id})
				return a.GetConfig(), err
			})
			known[r.name] = c.GetMeta().GetVersion().GetIndex()
		default:
			version := known[r.name]
			c := l.do(ctx, linear.Op{Client: id, Key: r.name, Kind: linear.Update, Expected: version, Value: value}, func(ctx context.Context) (*api.Config, error) {
				a, err := control.UpdateConfig(ctx, &api.UpdateConfigRequest{ConfigId: r.id, ConfigVersion: &api.Version{Index: version}, Spec: spec(r.name, value)})
				return a.GetConfig(), err
			})
			known[r.name] = c.GetMeta().GetVersion().GetIndex()
		}
	}
	return nil
}

func (l *Load) do(ctx context.Context, op linear.Op, f func(context.Context) (*api.Config, error)) *api.Config {
	// What is under way when the load ends is ended too, not cut off.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	began := time.Now()
	p := l.History.Begin(op)
	c, err := f(ctx)
	l.end(p, c, err)
	if err == nil && op.Kind != linear.Read {
		l.acknowledged(began)
	}
	return c
}

// end notes the outcome of an operation.
func (l *Load) end(p linear.Pending, c *api.Config, err error) {
	switch code := status.Code(err); {
	case err == nil:
		p.Done(c.GetMeta().GetVersion().GetIndex(), c.GetSpec().GetAnnotations().GetLabels()[label])
		return
	case code == codes.Aborted, code == codes.AlreadyExists, code == codes.NotFound:
		p.Refused()
		return
	case undone(err):
		p.Never()
	}
	count, _ := l.failed.LoadOrStore(status.Code(err).String()+": "+status.Convert(err).Message(), new(atomic.Int64))
	count.(*atomic.Int64).Add(1)
}

// undone reports whether an error says that nothing was done: the manager advises
// another try, or it was not even reached.
func undone(err error) bool {
	st := status.Convert(err)
	if st.Code() != codes.Unavailable {
		return false
	}
	for _, d := range st.Details() {
		if _, ok := d.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return strings.Contains(st.Message(), "Error while dialing")
}

func create(ctx context.Context, control api.ControlClient, name, value string) (*api.Config, error) {
	a, err := control.CreateConfig(ctx, &api.CreateConfigRequest{Spec: spec(name, value)})
	return a.GetConfig(), err
}

func spec(name, value string) *api.ConfigSpec {
	return &api.ConfigSpec{Annotations: &api.Annotations{Name: name, Labels: map[string]string{label: value}}, Data: []byte("a few bytes")}
}

// Objects returns all configs as a manager has them.
func Objects(ctx context.Context, control api.ControlClient) (map[string]linear.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := control.ListConfigs(ctx, &api.ListConfigsRequest{})
	if err != nil {
		return nil, err
	}
	out := make(map[string]linear.Object, len(r.Configs))
	for _, c := range r.Configs {
		a := c.GetSpec().GetAnnotations()
		out[a.GetName()] = linear.Object{Value: a.GetLabels()[label], Version: c.GetMeta().GetVersion().GetIndex()}
	}
	return out, nil
}
