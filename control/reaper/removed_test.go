package reaper_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/control/reaper"
	"skep/loop/looptest"
	"skep/model"
	"skep/store"
)

const day = 24 * time.Hour

func remember(t *testing.T, c *looptest.Cluster, id string, expiry *timestamppb.Timestamp) {
	t.Helper()
	removed, err := model.NewRemovedNode(id, expiry)
	if err != nil {
		t.Fatal(err)
	}
	c.Do(t, func(tx *store.Tx) error { return tx.Create(removed) })
}

func remembers(c *looptest.Cluster) string {
	var ids []string
	s := c.Store.Read()
	for r := range s.Resources.All() {
		ids = append(ids, r.GetId())
	}
	for cluster := range s.Clusters.All() {
		for cn := range cluster.GetBlacklistedCertificates() {
			ids = append(ids, "listed:"+cn)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func TestRemovedNodesAreForgottenAWeekAfterTheirCertificatesEnd(t *testing.T) {
	t.Parallel()
	c := looptest.New(reaper.RemovedNodes())
	in := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(c.Now().Add(d)) }
	remember(t, c, "soon", in(day))
	remember(t, c, "later", in(90*day))
	remember(t, c, "past", in(-8*day))
	remember(t, c, "forever", nil)
	c.Do(t, func(tx *store.Tx) error {
		if err := tx.Create(&api.Resource{Id: "users", Annotations: &api.Annotations{Name: "users"}, Kind: "route"}); err != nil {
			return err
		}
		return tx.Create(&api.Cluster{Id: "c", Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}},
			BlacklistedCertificates: map[string]*api.BlacklistedCertificate{"a": {Expiry: in(2 * day)}, "b": {Expiry: in(-8 * day)}, "c": {}}})
	})
	for _, step := range []struct {
		wait, next time.Duration // 0: never
		want       string
	}{
		{0, 8 * day, "forever later listed:a listed:c soon users"},
		{8*day - time.Second, time.Second, "forever later listed:a listed:c soon users"},
		{time.Second, day, "forever later listed:a listed:c users"},
		{day, 88 * day, "forever later listed:c users"},
		{88 * day, 0, "forever listed:c users"},
	} {
		c.Wait(step.wait)
		next := c.Settle(t)
		if got := remembers(c); got != step.want {
			t.Errorf("remembered are %s, want %s", got, step.want)
		}
		if step.next == 0 && !next.IsZero() || step.next != 0 && next.Sub(c.Now()) != step.next {
			t.Errorf("looks again at %v, which is in %v, want %v", next, next.Sub(c.Now()), step.next)
		}
	}
}

func TestANewLeaderForgetsWhatTheOldOneWouldHave(t *testing.T) {
	t.Parallel()
	first := looptest.New(reaper.RemovedNodes())
	remember(t, first, "n", timestamppb.New(first.Now().Add(day)))
	first.Settle(t)
	second := looptest.New(reaper.RemovedNodes())
	remember(t, second, "n", timestamppb.New(second.Now().Add(day)))
	second.Wait(9 * day) // nobody led
	if second.Settle(t); remembers(second) != "" {
		t.Errorf("remembered are %s", remembers(second))
	}
}
