package manager_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"skep/api"
	"skep/internal/logtest"
	"skep/model"
	"skep/store"
	"skep/vfs"
)

func TestWhatTheClusterSaysOfRaftHoldsWithoutARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := founder(t)
		disk := vfs.NewMem()
		log := &logtest.Buffer{}
		cfg.FS, cfg.Log = disk, slog.New(slog.NewTextHandler(log, nil))
		m, _ := lead(t, cfg)
		write := func(name string) (snapshots int) {
			for i := range 200 {
				if err := m.Store().Update(t.Context(), func(tx *store.Tx) error {
					return tx.Create(&api.Config{Id: fmt.Sprint(name, i), Spec: &api.ConfigSpec{
						Annotations: &api.Annotations{Name: fmt.Sprint(name, i)}, Data: bytes.Repeat([]byte{1}, 100),
					}})
				}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			names, err := disk.List("raft/snapshots")
			if err != nil {
				t.Fatal(err)
			}
			return len(names)
		}
		configure := func(raft *api.RaftConfig) {
			t.Helper()
			if _, err := store.Edit(t.Context(), m.Store(), cluster(t, m).GetId(), nil, func(c *api.Cluster) error {
				c.Spec = model.Shallow(c.GetSpec())
				c.Spec.Raft = raft
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if got := write("before"); got != 0 {
			t.Errorf("there are %d snapshots before 10,000 entries", got)
		}
		configure(&api.RaftConfig{SnapshotInterval: 10, KeepOldSnapshots: 4, HeartbeatTick: 1, ElectionTick: 10})
		for i := range 6 {
			write(fmt.Sprint("more", i))
		}
		if got := write("after"); got < 3 || got > 5 {
			t.Errorf("there are %d snapshots, want more than the two that there always are, and not more than five", got)
		}
		const said = "other ticks of raft"
		if strings.Contains(log.String(), said) {
			t.Error("the ticks that it has are said to be others")
		}
		configure(&api.RaftConfig{HeartbeatTick: 2, ElectionTick: 20})
		configure(&api.RaftConfig{SnapshotInterval: 77, HeartbeatTick: 2, ElectionTick: 20})
		if got := strings.Count(log.String(), said); got != 1 {
			t.Errorf("that ticks stay as they are is said %d times, want once", got)
		}
	})
}
