package controlapi_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"skep/api"
	"skep/model"
	"skep/rpc/controlapi"
)

// Of many services that ask for one port at once, one gets it.
func TestAPortIsTakenOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t, `network id: "ingress" spec { annotations { name: "ingress" } ingress: true }`)
	created := together(newServer(s), 20, func(server *controlapi.Server, i int) error {
		_, err := server.CreateService(t.Context(), parse(t, &api.CreateServiceRequest{}, fmt.Sprintf(
			`spec { annotations { name: "s%d" } task { container { image: "x" } } replicated { } endpoint { ports { target_port: 80 published_port: 80 } } }`, i)))
		return err
	}, func(err error) {
		if model.KindOf(err) != model.Invalid {
			t.Errorf("got %v, want Invalid", err)
		}
	})
	if created != 1 {
		t.Errorf("%d services were created with port 80, want 1", created)
	}
}

// Of many updates made from one version, one is carried out.
func TestAVersionIsUpdatedOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t, cluster)
	updated := together(newServer(s), 20, func(server *controlapi.Server, i int) error {
		_, err := server.UpdateNode(t.Context(), parse(t, &api.UpdateNodeRequest{}, fmt.Sprintf(
			`node_id: "worker" node_version { index: 1 } spec { membership: ACCEPTED annotations { labels { key: "i" value: "%d" } } }`, i)))
		return err
	}, func(err error) {
		if model.KindOf(err) != model.Conflict {
			t.Errorf("got %v, want Conflict", err)
		}
	})
	if updated != 1 {
		t.Errorf("%d updates were carried out, want 1", updated)
	}
}

// together calls f n times at once, gives the errors to failed, and returns how
// often f succeeded.
func together(server *controlapi.Server, n int, f func(*controlapi.Server, int) error, failed func(error)) int {
	var done atomic.Int64
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			if err := f(server, i); err != nil {
				failed(err)
				return
			}
			done.Add(1)
		})
	}
	calls.Wait()
	return int(done.Load())
}
