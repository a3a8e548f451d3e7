package node

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"skep/vfs"
)

// onDisk is a machine that has a disk in memory.
func onDisk(disk *vfs.Mem) Machine {
	return Machine{FS: disk, Lock: func(string) (io.Closer, error) { return io.NopCloser(nil), nil }}
}

// TestTheStateOfANodeSurvivesAPowerCutAtAnyStep cuts the power before each operation on the disk
// from the making of a state directory on: what is left opens, with what was last written or with what
// was being written.
// Fault 5 of the reliability promises: what a node knows of itself.
func TestTheStateOfANodeSurvivesAPowerCutAtAnyStep(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	before, after := state{}, state{}
	images := 0
	disk.Trace(func(op vfs.Op, name string) {
		for what, image := range disk.CrashImages() {
			images++
			d, err := openStateDir(onDisk(image), "/state")
			if err != nil {
				t.Errorf("a power cut before %s of %s, of which is left %s: %v", op, name, what, err)
				continue
			}
			is, err := d.load()
			if err != nil || is.RaftID != before.RaftID && is.RaftID != after.RaftID {
				t.Errorf("a power cut before %s of %s, of which is left %s: %+v, %v", op, name, what, is, err)
			}
		}
	})
	d, err := openStateDir(onDisk(disk), "/state")
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint64(4) {
		after = state{RaftID: id + 1, Managers: []string{"10.0.0.1:4242"}}
		if err := d.save(after); err != nil {
			t.Fatal(err)
		}
		before = after
	}
	if images < 50 {
		t.Errorf("%d images were looked at, which proves little", images)
	}
}

// Fault 10 of the reliability promises: what a node knows of itself.
func TestTheStateOfANodeStaysAsItIsWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	d, err := openStateDir(onDisk(disk), "/state")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.save(state{RaftID: 7}); err != nil {
		t.Fatal(err)
	}
	next := func(s *state) bool { s.RaftID = 8; return true }
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename} {
		fault := disk.Inject(vfs.Rule{Op: op, Err: syscall.ENOSPC})
		if err := d.edit(next); !errors.Is(err, syscall.ENOSPC) || !full(err) {
			t.Errorf("no space for a %s: %v", op, err)
		}
		fault.Remove()
		for _, image := range []*vfs.Mem{disk.Copy(), disk.Crash(rand.New(rand.NewPCG(1, uint64(op))))} {
			left, err := openStateDir(onDisk(image), "/state")
			if err != nil {
				t.Fatalf("no space for a %s: %v", op, err)
			}
			if is, err := left.load(); err != nil || is.RaftID != 7 {
				t.Errorf("no space for a %s: the state is %+v, %v", op, is, err)
			}
		}
		if names, err := disk.List("/state"); err != nil || slices.Contains(names, stateFile+newSuffix) {
			t.Errorf("no space for a %s: what could not be written takes some up: %q, %v", op, names, err)
		}
	}
	if err := d.edit(next); err != nil {
		t.Errorf("with space again: %v", err)
	}
}
