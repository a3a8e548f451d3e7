package process

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// unreadable returns a task whose parent is gone and whose exit record can be
// read only after heal: a directory stands in its place.
func unreadable(t *testing.T) (i *instance, heal func(exitRecord)) {
	t.Helper()
	i = &instance{task: "t", dir: directory(t.TempDir()), ended: make(chan struct{})}
	if err := os.Mkdir(i.dir.path(exitFile), 0o700); err != nil {
		t.Fatal(err)
	}
	return i, func(exit exitRecord) {
		t.Helper()
		if err := errors.Join(os.Remove(i.dir.path(exitFile)), i.dir.write(exitFile, exit)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARecordThatCannotBeReadForAMomentIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i, heal := unreadable(t)
		result := make(chan error, 1)
		go func() { result <- i.watch(nil) }()
		synctest.Wait()
		if i.over() {
			t.Fatalf("it ended as %+v, want that it is not known yet", i.exit)
		}
		heal(exitRecord{Code: 3})
		if err := <-result; err != nil || !i.over() || i.exit.Lost || i.exit.Code != 3 {
			t.Errorf("got %v, %+v; want exit code 3", err, i.exit)
		}
	})
}

func TestARecordThatCannotBeReadAtAllIsLostInTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i, _ := unreadable(t)
		begin := time.Now()
		if err := i.watch(nil); !errors.Is(err, errUnread) {
			t.Errorf("got %v, want errUnread", err)
		}
		if !i.over() || !i.exit.Lost || !strings.Contains(i.exit.Cause, "is a directory") {
			t.Errorf("got %+v, want that it is lost and why", i.exit)
		}
		if took := time.Since(begin); took < 30*time.Second || took > 2*time.Minute {
			t.Errorf("it took %v, want about a minute", took)
		}
	})
}

func TestAClosedExecutorLeavesARecordToTheNext(t *testing.T) {
	t.Parallel()
	i, _ := unreadable(t)
	closing := make(chan struct{})
	close(closing)
	if err := i.watch(closing); err != nil || i.over() {
		t.Errorf("got %v, over %v; want neither", err, i.over())
	}
}

func TestATaskIsLoadedWhoseRecordCannotBeRead(t *testing.T) {
	t.Parallel()
	i, heal := unreadable(t)
	if err := i.dir.write(runFile, runRecord{Parent: identity{Pid: 1 << 22, Start: 1}}); err != nil {
		t.Fatal(err)
	}
	loaded, err := load(i.task, i.dir)
	if err != nil || loaded.over() {
		t.Fatalf("got %+v, %v; want one whose end is not known", loaded, err)
	}
	heal(exitRecord{})
	if err := loaded.watch(nil); err != nil || loaded.exit.Lost {
		t.Errorf("got %v, %+v; want exit code 0", err, loaded.exit)
	}
}

func TestAProcessOfAnEarlierBootIsNotTakenForTheTask(t *testing.T) {
	t.Parallel()
	// This process itself has the pid and start time that the task had.
	self, err := identityOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil || boot == "" {
		t.Fatalf("boot ID: got %q, %v", boot, err)
	}
	for _, c := range []struct {
		what, boot string
		lives      bool
	}{
		{"this boot", boot, true},
		{"a boot that is not recorded", "", true},
		{"another boot", "another", false},
	} {
		dir := directory(t.TempDir())
		if err := dir.write(runFile, runRecord{Boot: c.boot, Parent: self, Process: self}); err != nil {
			t.Fatal(err)
		}
		i, err := load("t", dir)
		if err != nil || i.over() == c.lives || i.over() && (!i.exit.Lost || i.run.Process.Pid != 0) {
			t.Errorf("of %s: got %+v, %v; want that it lives %v", c.what, i, err, c.lives)
		}
		if i != nil && i.parent != nil {
			i.parent.close()
		}
	}
}
