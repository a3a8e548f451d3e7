package orchestrator_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/control/orchestrator"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

// BenchmarkScaleByOne is an update, as it comes over the wire, that adds one
// replica to a service of many.
func BenchmarkScaleByOne(b *testing.B) {
	for _, replicas := range []uint64{100, 10_000} {
		b.Run(fmt.Sprintf("replicas=%d", replicas), func(b *testing.B) {
			b.ReportAllocs()
			c := looptest.New(orchestrator.Loop())
			c.Draw(b, fmt.Sprintf("service web replicas=%d", replicas))
			c.Settle(b)
			n := replicas
			for b.Loop() {
				n++
				c.Do(b, func(tx *store.Tx) error {
					old, _ := tx.Services.Get("web")
					svc := model.Shallow(old)
					svc.Spec = proto.CloneOf(old.GetSpec())
					svc.Spec.Mode = &api.ServiceSpec_Replicated{Replicated: &api.ReplicatedService{Replicas: n}}
					svc.SpecVersion = old.GetMeta().GetVersion()
					return tx.Update(svc)
				})
				c.Settle(b)
			}
		})
	}
}
