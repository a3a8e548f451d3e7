package chaos

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skep/internal/linear"
)

const (
	writers  = 64
	replicas = 10
	// eachBar and medianBar are what a user may wait after a fault of the leader.
	eachBar   = 3 * time.Second
	medianBar = 1500 * time.Millisecond
	// enough rounds make a median. That of three is one round, which says more of what else the
	// machine did than of the swarm; each round has its bar in any case.
	enough = 10
	// stopped is for how long the leader stands still.
	stopped = 5 * time.Second
	// patience is for how long the swarm may take to be whole again.
	patience = time.Minute
)

// fault is done to a leader, and undone.
type fault struct {
	name string
	// hurt returns when the fault is in force.
	hurt func(*Node) error
	// lasts is for how long, at least until a write went through.
	lasts time.Duration
	mend  func(*Swarm, *Node) error
}

func faults() []fault {
	return []fault{
		{"kill -9", (*Node).Kill, 500 * time.Millisecond, func(s *Swarm, n *Node) error { return s.Start(n) }},
		{"SIGSTOP", (*Node).Stop, stopped, func(_ *Swarm, n *Node) error { return n.Signal(syscall.SIGCONT) }},
		{"partition", (*Node).CutOff, 2 * time.Second, func(_ *Swarm, n *Node) error { return n.Heal() }},
	}
}

// Faults 1, 14 and 20: whatever happens to the leader, writes go through again within
// 3 s, the history of all clients is that of a single copy, and tasks do not notice.
func TestALeaderIsLostAgainAndAgain(t *testing.T) {
	ctx, s := newSwarm(t, 3, 2)
	if err := s.Deploy(ctx, "hello", replicas); err != nil {
		t.Fatal(err)
	}
	tasks, err := s.Tasks(ctx, s.Nodes[0])
	if err != nil || len(tasks) != replicas {
		t.Fatalf("%d tasks run, not %d: %v", len(tasks), replicas, err)
	}
	l, finish := load(ctx, t, s)

	total := rounds(t)
	say("%d rounds of each fault, %d clients, seed %d", total, writers, l.seed)
	say("%-10s %7s  %-14s %12s %12s %10s", "fault", "round", "leader", "next write", "whole again", "writes")
	waits := make(map[string][]time.Duration)
	for _, f := range faults() {
		for i := range total {
			wait, err := round(ctx, s, l, f, i, total)
			if err != nil {
				t.Fatalf("%s, round %d: %v", f.name, i+1, err)
			}
			waits[f.name] = append(waits[f.name], wait)
			if wait > eachBar {
				t.Errorf("%s, round %d: the next write took %v, not at most %v", f.name, i+1, wait, eachBar)
			}
			if err := same(ctx, s, tasks); err != nil {
				t.Fatalf("%s, round %d: %v", f.name, i+1, err)
			}
		}
	}
	finish()
	for _, f := range faults() {
		all := slices.Sorted(slices.Values(waits[f.name]))
		median := all[len(all)/2]
		say("%-10s next write: median %v, max %v", f.name, ms(median), ms(all[len(all)-1]))
		if total >= enough && median > medianBar {
			t.Errorf("%s: the next write took %v in the median, not at most %v", f.name, median, medianBar)
		}
	}
	judge(ctx, t, s, l)
}

// load has clients write and read until finish is called.
func load(ctx context.Context, t *testing.T, s *Swarm) (l *Load, finish func()) {
	t.Helper()
	l = &Load{clients: writers, seed: uint64(time.Now().UnixNano())}
	for _, n := range s.Nodes[:s.Managers] {
		l.sockets = append(l.sockets, n.Socket)
	}
	if err := l.Renew(ctx, "0", s.Nodes[0].clients().Control); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(ctx)
	loaded := make(chan error, 1)
	go func() { loaded <- l.Run(ctx) }()
	ended := sync.OnceFunc(func() {
		stop()
		if err := <-loaded; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(ended)
	return l, ended
}

// round hurts the leader once and returns how long it took until the next write.
func round(ctx context.Context, s *Swarm, l *Load, f fault, i, total int) (time.Duration, error) {
	leader, err := s.Leader(ctx, nil)
	if err != nil {
		return 0, err
	}
	if err := l.Renew(ctx, fmt.Sprintf("%s-%d", f.name[:4], i), leader.clients().Control); err != nil {
		return 0, err
	}
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return 0, err
	}
	writes := l.History.Writes()
	if err := f.hurt(leader); err != nil {
		return 0, err
	}
	// From now on: what starting nft took, up to 0.2 s on a busy machine, is no time without a leader.
	began, next := time.Now(), l.Next()
	var wait time.Duration
	select {
	case acknowledged := <-next:
		wait = acknowledged.Sub(began)
	case <-time.After(30 * time.Second):
		return 0, fmt.Errorf("no write was acknowledged for 30 s after %s; clients were told:\n%s", leader.Name, l.told())
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if err := pause(ctx, f.lasts-time.Since(began)); err != nil {
		return 0, err
	}
	mended := time.Now()
	if err := f.mend(s, leader); err != nil {
		return 0, err
	}
	if err := s.Whole(ctx, patience); err != nil {
		return 0, err
	}
	whole := time.Since(mended)
	after, err := s.Leader(ctx, nil)
	if err != nil {
		return 0, err
	}
	say("%-10s %3d/%-3d  %-14s %12v %12v %10d", f.name, i+1, total, leader.Name+" → "+after.Name, ms(wait), ms(whole), l.History.Writes()-writes)
	return wait, nil
}

// same checks that exactly the tasks of before run, as the processes of before.
func same(ctx context.Context, s *Swarm, before map[string]Process) error {
	now, err := s.Tasks(ctx, s.Nodes[0])
	if err != nil {
		return err
	}
	if !maps.Equal(before, now) {
		return fmt.Errorf("tasks were restarted: before %v, now %v", before, now)
	}
	return nil
}

// judge looks at what clients were told from the beginning to the end.
func judge(ctx context.Context, t *testing.T, s *Swarm, l *Load) {
	t.Helper()
	say("clients did %d operations, %d writes were acknowledged; they were refused so:\n%s", l.History.Len(), l.History.Writes(), l.told())
	var first map[string]linear.Object
	for _, n := range s.Nodes[:s.Managers] {
		objects, err := Objects(ctx, n.clients().Control)
		if err != nil {
			t.Fatalf("read everything from %s: %v", n.Name, err)
		}
		if err := l.History.Present(objects); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		if first == nil {
			first = objects
		}
		if !maps.Equal(first, objects) {
			t.Errorf("%s has other objects than %s", n.Name, s.Nodes[0].Name)
		}
	}
	began := time.Now()
	if err := l.History.Linearizable(time.Minute); err != nil {
		t.Error(err)
		return
	}
	say("all of them are there on each manager, and the history of %d objects is linearizable (judged in %v)", len(l.History.Keys()), ms(time.Since(began)))
}

// told counts the errors that clients got.
func (l *Load) told() string {
	out := ""
	lines := make(map[string]int64)
	l.failed.Range(func(text, count any) bool {
		lines[text.(string)] = count.(*atomic.Int64).Load()
		return true
	})
	for _, text := range slices.Sorted(maps.Keys(lines)) {
		out += fmt.Sprintf("  %6d × %s\n", lines[text], text)
	}
	return out
}

func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
