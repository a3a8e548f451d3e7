package manager

import (
	"context"
	"log/slog"

	"skep/api"
	"skep/raft"
	"skep/store"
)

// followCluster has raft do what the cluster object says of it, whenever that is something else,
// until ctx ends. Ticks are for all managers to count alike at any moment, a change of the object is
// not there on all at once: they stay, and that is said.
func (m *Manager) followCluster(ctx context.Context) {
	const waiting = 1 // the present object is enough
	id := m.cfg.Identity.ClusterID()
	head, sub := m.store.Subscribe(waiting, store.ObjectKey(store.KindCluster, id))
	defer sub.Close()
	var said ticks
	for {
		if cluster, ok := head.Clusters.Get(id); ok {
			spec := cluster.GetSpec().GetRaft()
			m.raft.Load().Tune(raft.Tuning{
				SnapshotEntries: spec.GetSnapshotInterval(),
				KeepSnapshots:   spec.GetKeepOldSnapshots(),
				KeepEntries:     spec.GetLogEntriesForSlowFollowers(),
			})
			if wanted := ticksOf(spec); wanted != said {
				if said = wanted; wanted != (ticks{heartbeatTicks, electionTicks}) {
					m.cfg.Log.WarnContext(ctx, "the cluster object says other ticks of raft than this release has; they stay as they are",
						slog.Any("heartbeat", wanted.heartbeat), slog.Any("election", wanted.election))
				}
			}
		}
		select {
		case <-sub.Ready():
		case <-ctx.Done():
			return
		}
		if _, resync := sub.Take(); resync {
			sub.Resync()
		}
		head = m.store.Read()
	}
}

// ticks are how often a leader shows itself, and how long it is waited for.
type ticks struct{ heartbeat, election uint32 }

func ticksOf(spec *api.RaftConfig) ticks {
	t := ticks{spec.GetHeartbeatTick(), spec.GetElectionTick()}
	if t.heartbeat == 0 {
		t.heartbeat = heartbeatTicks
	}
	if t.election == 0 {
		t.election = electionTicks
	}
	return t
}
