package chaos

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
)

const (
	chunk         = 500_000 // bytes of each config
	interruptions = 5
	// fewEntries is how long the log may be: whoever joins gets a snapshot then.
	fewEntries = 100
)

// Fault 34: a manager joins a swarm whose state is 100 MB (-short: 10 MB) over a link of 10
// Mbit, and loses its connections five times. It goes on where it was: what it gets is not
// much more than the state. The leader goes on too, its log and memory bounded.
func TestALargeSnapshotGoesOnWhereItWasInterrupted(t *testing.T) {
	size := 100_000_000
	if testing.Short() {
		size = 10_000_000
	}
	ctx, s := newSwarm(t, 1, 0)
	leader := s.Nodes[0]
	control := leader.clients().Control
	list, err := control.ListClusters(ctx, &api.ListClustersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	cluster := list.Clusters[0]
	spec := proto.Clone(cluster.GetSpec()).(*api.ClusterSpec)
	spec.Raft.SnapshotInterval, spec.Raft.LogEntriesForSlowFollowers = fewEntries, 10
	if _, err := control.UpdateCluster(ctx, &api.UpdateClusterRequest{ClusterId: cluster.Id, ClusterVersion: cluster.GetMeta().GetVersion(), Spec: spec}); err != nil {
		t.Fatal(err)
	}
	for i := range size / chunk {
		data := make([]byte, chunk)
		_, _ = rand.Read(data) // never fails
		if _, err := control.CreateConfig(ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: fmt.Sprintf("large-%d", i)}, Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 * fewEntries {
		if _, err := create(ctx, control, fmt.Sprintf("small-%d", i), ""); err != nil {
			t.Fatal(err)
		}
	}
	before, err := leader.memory("VmRSS:")
	if err != nil {
		t.Fatal(err)
	}

	joiner, err := s.Add("m2")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Narrow(joiner, "10mbit"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Start(joiner, "--join-addr", leader.Addr, "--join-token", cluster.GetRootCa().GetJoinTokens().GetManager()); err != nil {
		t.Fatal(err)
	}
	s.Managers = 2
	written, slowest := 0, time.Duration(0)
	write := func(ctx context.Context) error {
		since := time.Now()
		_, err := create(ctx, control, fmt.Sprintf("meanwhile-%d", written), "")
		slowest = max(slowest, time.Since(since))
		written++
		return err
	}
	for i := range interruptions {
		least := int64(size) * int64(i+1) / (interruptions + 1)
		if err := eventually(ctx, 5*time.Minute, fmt.Sprintf("the joining manager has %d bytes", least), func(ctx context.Context) error {
			if err := write(ctx); err != nil {
				return err
			}
			got, err := joiner.Received()
			if err == nil && got < least {
				err = fmt.Errorf("it has %d", got)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := inOrder(joiner.Sever, func() error { return pause(ctx, time.Second) }, joiner.Heal); err != nil {
			t.Fatal(err)
		}
		got, _ := joiner.Received()
		say("interrupted after %5.1f MB of %d, at %v", float64(got)/1e6, size/1_000_000, ms(time.Since(began)))
	}
	if err := eventually(ctx, 5*time.Minute, "the second manager votes", func(ctx context.Context) error {
		if err := write(ctx); err != nil {
			return err
		}
		h, err := leader.Health(ctx)
		if err == nil && h.Voters != 2 {
			err = errors.New(h.Verdict)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	got, err := joiner.Received()
	if err != nil {
		t.Fatal(err)
	}
	peak, err := leader.memory("VmHWM:")
	if err != nil {
		t.Fatal(err)
	}
	log, err := bytesBelow(leader.state, "log")
	if err != nil {
		t.Fatal(err)
	}
	say("%d MB at 10 Mbit, interrupted %d times: votes after %v; it got %.1f MB; the leader wrote %d objects meanwhile, the slowest in %v",
		size/1_000_000, interruptions, ms(took), float64(got)/1e6, written, ms(slowest))
	say("the leader's memory: %d MB before, %d MB at most; its log: %.1f MB", before/1_000_000, peak/1_000_000, float64(log)/1e6)
	if most := int64(size) * 3 / 2; got > most {
		t.Errorf("it got %d bytes: it began anew; at most %d were expected", got, most)
	}
	if most := before + 4*int64(size) + 100_000_000; peak > most {
		t.Errorf("the leader took %d bytes of memory, at most %d were expected", peak, most)
	}
	objects, err := Objects(ctx, joiner.clients().Control)
	if err != nil {
		t.Fatal(err)
	}
	if want := size/chunk + 2*fewEntries + written; len(objects) != want {
		t.Errorf("the manager that joined has %d objects, not %d", len(objects), want)
	}
}

// memory returns a line of /proc/PID/status in bytes.
func (n *Node) memory(what string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, what); ok {
			var kilobytes int64
			_, err := fmt.Sscan(value, &kilobytes)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("/proc says no %s of %s", what, n.Name)
}

// bytesBelow returns the size of the files in all directories of a name.
func bytesBelow(root, name string) (sum int64, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() && filepath.Base(filepath.Dir(path)) == name {
			info, err := d.Info()
			if err != nil {
				return err
			}
			sum += info.Size()
		}
		return nil
	})
	return sum, err
}
