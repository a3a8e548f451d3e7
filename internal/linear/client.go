package linear

import (
	"context"
	"fmt"
	"math/rand/v2"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/model"
)

// label holds a config's value: its data cannot change.
const label = "value"

// Client is one client of a control API that works on configs and records what it is
// told. It does one thing at a time.
type Client struct {
	ID      int
	History *History
	Keys    []string
	Rand    *rand.Rand

	known map[string]Known
	count int
}

// Known is what a client knows of an object.
type Known struct {
	ID      string
	Version uint64
}

// Step does one operation on one object: creates it if this client knows none, else
// updates or reads it. It says whether a write was acknowledged, and the error that it
// was answered with.
func (c *Client) Step(ctx context.Context, control api.ControlClient) (wrote bool, err error) {
	if c.known == nil {
		c.known = make(map[string]Known)
	}
	key := c.Keys[c.Rand.IntN(len(c.Keys))]
	known, ok := c.known[key]
	switch {
	case !ok:
		return c.find(ctx, control, key)
	case c.Rand.IntN(3) == 0 || known.Version == 0:
		return false, c.read(ctx, control, key, known)
	default:
		return c.update(ctx, control, key, known)
	}
}

func (c *Client) value() string {
	c.count++
	return fmt.Sprintf("%d.%d", c.ID, c.count)
}

func spec(key, value string) *api.ConfigSpec {
	return &api.ConfigSpec{Annotations: &api.Annotations{Name: key, Labels: map[string]string{label: value}}, Data: []byte(key)}
}

// find creates an object, or finds the one that another client created.
func (c *Client) find(ctx context.Context, control api.ControlClient, key string) (wrote bool, err error) {
	value := c.value()
	p := c.History.Begin(Op{Client: c.ID, Key: key, Kind: Create, Value: value})
	r, err := control.CreateConfig(ctx, &api.CreateConfigRequest{Spec: spec(key, value)})
	if err == nil {
		p.Done(r.GetConfig().GetMeta().GetVersion().GetIndex(), "")
		c.learn(key, r.GetConfig())
		return true, nil
	}
	if status.Code(err) != codes.AlreadyExists {
		settle(p, err)
		return false, err
	}
	p.Refused()
	p = c.History.Begin(Op{Client: c.ID, Key: key, Kind: Read})
	found, err := control.ListConfigs(ctx, &api.ListConfigsRequest{Filters: &api.ListConfigsRequest_Filters{Names: []string{key}}})
	switch {
	case err != nil:
		return false, err
	case len(found.GetConfigs()) == 0:
		p.Refused()
		return false, nil
	}
	c.saw(p, key, found.GetConfigs()[0])
	return false, nil
}

func (c *Client) read(ctx context.Context, control api.ControlClient, key string, known Known) error {
	p := c.History.Begin(Op{Client: c.ID, Key: key, Kind: Read})
	r, err := control.GetConfig(ctx, &api.GetConfigRequest{ConfigId: known.ID})
	switch {
	case err == nil:
		c.saw(p, key, r.GetConfig())
	case status.Code(err) == codes.NotFound:
		p.Refused()
	}
	return err
}

func (c *Client) update(ctx context.Context, control api.ControlClient, key string, known Known) (wrote bool, err error) {
	value := c.value()
	p := c.History.Begin(Op{Client: c.ID, Key: key, Kind: Update, Expected: known.Version, Value: value})
	r, err := control.UpdateConfig(ctx, &api.UpdateConfigRequest{
		ConfigId: known.ID, ConfigVersion: &api.Version{Index: known.Version}, Spec: spec(key, value),
	})
	switch {
	case err == nil:
		p.Done(r.GetConfig().GetMeta().GetVersion().GetIndex(), "")
		c.learn(key, r.GetConfig())
		return true, nil
	case status.Code(err) == codes.Aborted:
		p.Refused()
		err = nil // another client was faster
	default:
		settle(p, err)
	}
	c.known[key] = Known{ID: known.ID} // read before the next update
	return false, err
}

func (c *Client) saw(p Pending, key string, config *api.Config) {
	p.Done(config.GetMeta().GetVersion().GetIndex(), config.GetSpec().GetAnnotations().GetLabels()[label])
	c.learn(key, config)
}

func (c *Client) learn(key string, config *api.Config) {
	c.known[key] = Known{ID: config.GetId(), Version: config.GetMeta().GetVersion().GetIndex()}
}

// settle notes what an error says of the outcome. Unavailable with advice when to try
// again is the promise that nothing was carried out; without it, it is a connection
// that broke.
func settle(p Pending, err error) {
	if retryable(err) {
		p.Never()
		return
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated, codes.ResourceExhausted, codes.Unimplemented:
		p.Never()
	default:
	}
}

// retryable reports whether an error promises that nothing was carried out and advises
// to try again.
func retryable(err error) bool {
	_, ok := model.Advised(err)
	return ok
}

// Objects reads all that clients work on, for Present.
func Objects(ctx context.Context, control api.ControlClient) (map[string]Object, error) {
	r, err := control.ListConfigs(ctx, &api.ListConfigsRequest{})
	if err != nil {
		return nil, err
	}
	out := make(map[string]Object)
	for _, config := range r.GetConfigs() {
		a := config.GetSpec().GetAnnotations()
		if value, ok := a.GetLabels()[label]; ok {
			out[a.GetName()] = Object{Value: value, Version: config.GetMeta().GetVersion().GetIndex()}
		}
	}
	return out, nil
}
