package rotator

import (
	"cmp"
	"crypto/rand"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/loop"
	"skep/model"
	"skep/store"
)

const (
	// KeysKind is the kind of the resource that says when the network keys were last changed, and
	// its ID: its payload is a Timestamp. The cluster object of the contract has no place for it.
	KeysKind = "skep.network-keys"

	keyPeriod = 12 * time.Hour
	keysEach  = 3
	keySize   = 16 // AES-128
)

// keySubsystems are those that engines know.
func keySubsystems() []string { return []string{"networking:gossip", "networking:ipsec"} }

// Keys makes the keys that engines encrypt network traffic with, and replaces them in turn.
type Keys struct {
	// ClusterID is the ID of the cluster object. Required.
	ClusterID string
	// Period is how long keys stay before a step; 12 h if zero.
	Period time.Duration
	// Random is where keys come from; crypto/rand if nil.
	Random io.Reader
}

// Loop returns the loop over the cluster.
func (k Keys) Loop() loop.Loop[string] {
	if k.Period <= 0 {
		k.Period = keyPeriod
	}
	if k.Random == nil {
		k.Random = rand.Reader
	}
	return loop.Loop[string]{
		Name: "network-keys",
		Keys: func(c store.Change, dirty func(string)) {
			switch o := cmp.Or(c.New, c.Old).(type) {
			case *api.Cluster:
				if was, ok := c.Old.(*api.Cluster); o.GetId() == k.ClusterID &&
					(!ok || len(was.GetNetworkBootstrapKeys()) != len(o.GetNetworkBootstrapKeys())) {
					dirty(k.ClusterID)
				}
			case *api.Resource:
				if o.GetId() == KeysKind {
					dirty(k.ClusterID)
				}
			}
		},
		All:  func(_ *store.Snapshot, dirty func(string)) { dirty(k.ClusterID) },
		Plan: k.plan,
	}
}

func (k Keys) plan(env *loop.Env, s *store.Snapshot, ids []string, out *loop.Plan[string]) {
	for _, id := range ids {
		cluster, ok := s.Clusters.Get(id)
		if !ok {
			continue
		}
		if out.Left() < 2 {
			out.Again(id)
			continue
		}
		record, known := s.Resources.Get(KeysKind)
		changed, readable := changedAt(record)
		complete := complete(cluster)
		if complete && readable && !env.Now.Before(changed.Add(k.Period)) || !complete {
			next := model.Shallow(cluster)
			if err := k.step(env, next); err != nil {
				out.WakeAt(id, env.Now.Add(time.Minute)) // without randomness nothing here works
				continue
			}
			out.Update(next)
		} else if readable {
			out.WakeAt(id, changed.Add(k.Period))
			continue
		}
		remember(env, record, known, out)
		out.WakeAt(id, env.Now.Add(k.Period))
	}
}

// complete reports whether each subsystem has all its keys.
func complete(c *api.Cluster) bool {
	count := map[string]int{}
	for _, key := range c.GetNetworkBootstrapKeys() {
		count[key.GetSubsystem()]++
	}
	return !slices.ContainsFunc(keySubsystems(), func(subsystem string) bool { return count[subsystem] < keysEach })
}

func changedAt(record *api.Resource) (time.Time, bool) {
	var at timestamppb.Timestamp
	if record.GetPayload() == nil || record.GetPayload().UnmarshalTo(&at) != nil || at.CheckValid() != nil {
		return time.Time{}, false
	}
	return at.AsTime(), true
}

// remember writes down that the keys changed now.
func remember(env *loop.Env, record *api.Resource, known bool, out *loop.Plan[string]) {
	payload, err := anypb.New(timestamppb.New(env.Now))
	if err != nil {
		return // a Timestamp can be packed
	}
	if !known {
		out.Create(&api.Resource{Id: KeysKind, Kind: KeysKind, Annotations: &api.Annotations{Name: KeysKind}, Payload: payload})
		return
	}
	record = model.Shallow(record)
	record.Payload = payload
	out.Update(record)
}

// step gives each subsystem one new key in place of its oldest, or, if one lacks keys, those.
func (k Keys) step(env *loop.Env, c *api.Cluster) error {
	clock := c.GetEncryptionKeyLamportClock()
	if clock == 0 {
		clock = uint64(env.Rand.Uint32N(1 << 16))
	}
	keys := slices.Clone(c.GetNetworkBootstrapKeys())
	for _, key := range keys {
		clock = max(clock, key.GetLamportTime())
	}
	whole := complete(c)
	for _, subsystem := range keySubsystems() {
		n, oldest := 0, -1
		for i, key := range keys {
			if key.GetSubsystem() != subsystem {
				continue
			}
			n++
			if oldest < 0 || key.GetLamportTime() < keys[oldest].GetLamportTime() {
				oldest = i
			}
		}
		if whole && n >= keysEach {
			keys = slices.Delete(keys, oldest, oldest+1)
			n--
		}
		for ; n < keysEach; n++ {
			secret := make([]byte, keySize)
			if _, err := io.ReadFull(k.Random, secret); err != nil {
				return err
			}
			clock++
			keys = append(keys, &api.EncryptionKey{
				Subsystem: subsystem, Algorithm: api.EncryptionKey_AES_128_GCM, Key: secret, LamportTime: clock,
			})
		}
	}
	c.NetworkBootstrapKeys, c.EncryptionKeyLamportClock = keys, clock
	return nil
}
