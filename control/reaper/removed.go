package reaper

import (
	"time"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

// RemovedNodes returns the loop that forgets removed nodes once their last
// certificate has been worth nothing for a week: those that are objects of their
// own, and those that the cluster object lists.
func RemovedNodes() loop.Any {
	return loop.Loop[remembered]{
		Name: "removed-nodes",
		Keys: func(c store.Change, dirty func(remembered)) {
			switch is := c.New.(type) {
			case *api.Resource:
				if _, removed := model.RemovedNodeExpiry(is); removed {
					dirty(remembered{node: is.GetId()})
				}
			case *api.Cluster:
				if was, _ := c.Old.(*api.Cluster); len(was.GetBlacklistedCertificates()) != len(is.GetBlacklistedCertificates()) {
					dirty(remembered{cluster: is.GetId()})
				}
			}
		},
		All: func(s *store.Snapshot, dirty func(remembered)) {
			for r := range s.Resources.All() {
				if _, removed := model.RemovedNodeExpiry(r); removed {
					dirty(remembered{node: r.GetId()})
				}
			}
			for c := range s.Clusters.All() {
				if len(c.GetBlacklistedCertificates()) > 0 {
					dirty(remembered{cluster: c.GetId()})
				}
			}
		},
		Plan: forget,
	}
}

// remembered is a removed node that is an object of its own, or a cluster that
// lists some.
type remembered struct{ node, cluster string }

func forget(env *loop.Env, s *store.Snapshot, keys []remembered, out *loop.Plan[remembered]) {
	for i, k := range keys {
		if out.Full() {
			out.Again(keys[i:]...)
			return
		}
		if k.cluster != "" {
			forgetListed(env, s, k, out)
			continue
		}
		r, ok := s.Resources.Get(k.node)
		if !ok {
			continue
		}
		expiry, removed := model.RemovedNodeExpiry(r)
		if !removed || expiry == nil {
			continue
		}
		if at := expiry.AsTime().Add(model.ForgetRemovedAfter); at.After(env.Now) {
			out.WakeAt(k, at)
		} else {
			out.Delete(r)
		}
	}
}

// forgetListed takes off a cluster's list what is worth nothing any more.
func forgetListed(env *loop.Env, s *store.Snapshot, k remembered, out *loop.Plan[remembered]) {
	c, ok := s.Clusters.Get(k.cluster)
	if !ok {
		return
	}
	listed := c.GetBlacklistedCertificates()
	kept := make(map[string]*api.BlacklistedCertificate, len(listed))
	var next time.Time
	for cn, b := range listed {
		at := b.GetExpiry().AsTime().Add(model.ForgetRemovedAfter)
		switch {
		case b.GetExpiry() == nil:
		case !at.After(env.Now):
			continue
		case next.IsZero() || at.Before(next):
			next = at
		}
		kept[cn] = b
	}
	if len(kept) < len(listed) {
		c = model.Shallow(c)
		c.BlacklistedCertificates = kept
		out.Update(c)
	}
	if !next.IsZero() {
		out.WakeAt(k, next)
	}
}
