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
	"sync/atomic"
	"testing"
	"time"

	"skep/api"
)

const (
	chunk         = 500_000 // bytes of each config
	interruptions = 5
	// entries is more than a leader keeps in its log: whoever joins gets a snapshot.
	entries = 22_000
	// hardly is how long a write may wait for somebody who only joins.
	hardly = time.Second
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
	for i := range size / chunk {
		data := make([]byte, chunk)
		_, _ = rand.Read(data) // never fails
		if _, err := control.CreateConfig(ctx, &api.CreateConfigRequest{Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: fmt.Sprintf("large-%d", i)}, Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := fill(ctx, leader); err != nil {
		t.Fatal(err)
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
		if err == nil {
			written++
		}
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
	// Writes go on meanwhile, and with them garbage: a copy of the state or two, but not one for each attempt.
	if most := before + 2*int64(size) + 64_000_000; peak > most {
		t.Errorf("the leader took %d bytes of memory, at most %d were expected", peak, most)
	}
	// What a snapshot replaces goes with the next one: half of the state, and a file of the log.
	if most := int64(size)/2 + 48_000_000; log > most {
		t.Errorf("the leader's log has %d bytes, at most %d were expected", log, most)
	}
	bar := hardly
	if testing.Short() { // of few writes on a machine that does other things too
		bar = eachBar
	}
	if slowest > bar {
		t.Errorf("a write took %v while a manager joined, at most %v was expected", slowest, bar)
	}
	objects, err := Objects(ctx, joiner.clients().Control)
	if err != nil {
		t.Fatal(err)
	}
	if want := size/chunk + entries + written; len(objects) != want {
		t.Errorf("the manager that joined has %d objects, not %d", len(objects), want)
	}
}

// fill makes the log so long that the leader writes snapshots.
func fill(ctx context.Context, n *Node) error {
	var next atomic.Int64
	errs := make(chan error, writers)
	for range writers {
		go func() {
			for {
				i := next.Add(1)
				if i > entries {
					errs <- nil
					return
				}
				if _, err := create(ctx, n.clients().Control, fmt.Sprintf("small-%d", i), ""); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	var all error
	for range writers {
		all = errors.Join(all, <-errs)
	}
	return all
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
