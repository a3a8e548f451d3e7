package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"

	"skep/raft/seal"
	"skep/raft/wal"
	"skep/vfs"
	"skep/vfs/vfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id    = 7
	owner = "node"
)

// config makes a log with small segments in fsys.
func config(fsys vfs.FS) wal.Config {
	return wal.Config{FS: fsys, Dir: "log", Key: seal.Key{1}, SegmentBytes: 1200, AheadBytes: 512}
}

func entry(index, term uint64, data string) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: []byte(data)}
}

// create makes a log that holds entry 1.
func create(t testing.TB, fsys vfs.FS) *wal.Log {
	t.Helper()
	if err := vfs.MakeDir(fsys, "log"); err != nil {
		t.Fatal(err)
	}
	l, err := wal.Create(config(fsys), id, owner, wal.HardState{Term: 1, Commit: 1}, []*raftpb.Entry{entry(1, 1, "first")})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// flush makes entries durable, one batch.
func flush(t testing.TB, l *wal.Log, state *wal.HardState, entries ...*raftpb.Entry) {
	t.Helper()
	l.Append(state, entries)
	if _, err := l.Flush(); err != nil {
		t.Fatal(err)
	}
}

// fill makes a log of n entries, one in each batch, and closes it.
func fill(t testing.TB, fsys vfs.FS, n uint64) {
	t.Helper()
	l := create(t, fsys)
	for i := uint64(2); i <= n; i++ {
		flush(t, l, &wal.HardState{Term: 1, Vote: id, Commit: i - 1}, entry(i, 1, fmt.Sprintf("entry %d", i)))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// says writes entries as "index.term=data".
func says(entries []*raftpb.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%d.%d=%s ", e.GetIndex(), e.GetTerm(), e.GetData())
	}
	return b.String()
}

// reopen opens the log and closes it again.
func reopen(fsys vfs.FS, after uint64) (*wal.Recovered, error) {
	l, r, err := wal.Open(config(fsys), after)
	if err != nil {
		return nil, err
	}
	return r, l.Close()
}

func wantEntries(t *testing.T, r *wal.Recovered, from, to uint64) {
	t.Helper()
	for i, e := range r.Entries {
		if e.GetIndex() != from+uint64(i) {
			t.Fatalf("entry %d stands where %d should", e.GetIndex(), from+uint64(i))
		}
	}
	if got := uint64(len(r.Entries)); got != to-from+1 || r.LastIndex != to {
		t.Fatalf("%d entries to %d are recovered, want those from %d to %d", got, r.LastIndex, from, to)
	}
}

func TestALogIsFoundAsItWasLeft(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	fill(t, m, 40)
	r, err := reopen(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 1, 40)
	if want := (wal.HardState{Term: 1, Vote: id, Commit: 39}); r.State != want {
		t.Errorf("the hard state is %+v, want %+v", r.State, want)
	}
	if r.ID != id || r.Owner != owner {
		t.Errorf("the log is of %d on %q, want %d on %q", r.ID, r.Owner, id, owner)
	}
	if r.Cut != nil {
		t.Errorf("%+v was cut off, want nothing", r.Cut)
	}
	if r, err = reopen(m, 30); err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 31, 40)
}

func TestThereIsNoLogInAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	if err := vfs.MakeDir(m, "log"); err != nil {
		t.Fatal(err)
	}
	if _, err := reopen(m, 0); !errors.Is(err, wal.ErrNone) {
		t.Errorf("got %v, want %v", err, wal.ErrNone)
	}
}

func TestEntriesReplaceThoseFromTheirIndexOn(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	flush(t, l, nil, entry(2, 1, "a"), entry(3, 1, "b"), entry(4, 1, "c"))
	flush(t, l, &wal.HardState{Term: 2, Commit: 1}, entry(3, 2, "B"))
	// Two that replace each other in one batch, as a busy disk makes them.
	l.Append(nil, []*raftpb.Entry{entry(4, 2, "C"), entry(5, 2, "D")})
	flush(t, l, &wal.HardState{Term: 3, Commit: 2}, entry(5, 3, "E"))
	r, err := reopen(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := says(r.Entries), "1.1=first 2.1=a 3.2=B 4.2=C 5.3=E "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if r.LastTerm != 3 {
		t.Errorf("the last term is %d, want 3", r.LastTerm)
	}
}

func TestACommitIndexAloneIsNotWorthASync(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	if l.Append(&wal.HardState{Term: 1, Commit: 1}, nil) {
		t.Error("an unchanged hard state calls for a flush")
	}
	flush(t, l, nil, entry(2, 1, "a"))
	if l.Append(&wal.HardState{Term: 1, Commit: 2}, nil) {
		t.Error("a new commit index calls for a flush")
	}
	if !l.Append(&wal.HardState{Term: 1, Vote: id, Commit: 2}, nil) {
		t.Error("a vote calls for no flush")
	}
	flush(t, l, nil)
	if !l.Append(&wal.HardState{Term: 2, Vote: id, Commit: 2}, nil) {
		t.Error("a new term calls for no flush")
	}
}

// A leader may learn that an entry is committed, by the disks of others, before its own
// disk has it: both are then in one batch, and a new segment may begin before that.
func TestANewSegmentDoesNotRunAheadOfTheBatchThatCallsForIt(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	m.Trace(func(op vfs.Op, name string) {
		for says, image := range m.CrashImages() {
			if _, err := reopen(image, 0); err != nil {
				t.Errorf("a crash before %v of %s, of which is left %s: %v", op, name, says, err)
			}
		}
	})
	for i := uint64(2); i <= 20; i++ {
		flush(t, l, &wal.HardState{Term: 1, Vote: id, Commit: i}, entry(i, 1, strings.Repeat("x", 100)))
	}
	m.Trace(nil)
	if _, segments := l.Size(); segments < 2 {
		t.Errorf("the log has %d segments, which proves nothing", segments)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLargeBatchesTakeSeveralRecordsAndAreStillWhole(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	big := strings.Repeat("x", 700<<10)
	flush(t, l, nil, entry(2, 1, big), entry(3, 1, big), entry(4, 1, big+big+big), entry(5, 1, "small"))
	r, err := reopen(m.Copy(), 0)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 1, 5)
	if len(r.Entries[3].GetData()) != 3*len(big) {
		t.Errorf("entry 4 has %d bytes, want %d", len(r.Entries[3].GetData()), 3*len(big))
	}
	// Without its last record nothing of the batch is left.
	name := segments(t, m)[0]
	data := vfstest.ReadFile(t, m, name)
	cut := len(data)
	for cut > 0 && data[cut-1] == 0 {
		cut--
	}
	truncate(t, m, name, int64(cut-8))
	if r, err = reopen(m, 0); err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 1, 1)
}

// What could not be removed is still counted, and its key still needed, until it is.
func TestOldSegmentsThatCannotBeRemovedAreTriedAgain(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	fill(t, m, 300)
	l, _, err := wal.Open(config(m), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := len(segments(t, m))
	m.Inject(vfs.Rule{Op: vfs.OpRemove, Name: "*.log", Skip: 2, Count: 1, Err: syscall.EIO})
	if err := l.Release(280); !errors.Is(err, syscall.EIO) {
		t.Errorf("the error is %v, want %v", err, syscall.EIO)
	}
	if _, n := l.Size(); n != before-2 || len(segments(t, m)) != n {
		t.Errorf("the log counts %d segments, %d are there, want %d", n, len(segments(t, m)), before-2)
	}
	if err := l.Release(280); err != nil {
		t.Error(err)
	}
	if _, n := l.Size(); n >= before-2 || len(segments(t, m)) != n {
		t.Errorf("the log counts %d segments, %d are there, want fewer", n, len(segments(t, m)))
	}
}

func TestOldSegmentsGoAndTheRestStandsAlone(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	fill(t, m, 60)
	l, _, err := wal.Open(config(m), 0)
	if err != nil {
		t.Fatal(err)
	}
	before := len(segments(t, m))
	if err := l.Release(50); err != nil {
		t.Fatal(err)
	}
	after := len(segments(t, m))
	if _, n := l.Size(); n != after || after >= before || after == 0 {
		t.Errorf("%d of %d segments are left, and the log counts %d", after, before, n)
	}
	flush(t, l, nil, entry(61, 1, "more"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := reopen(m, 50)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 51, 61)
	if r.State.Vote != id {
		t.Error("the vote went with the old segments")
	}
	_, err = reopen(m, 1)
	wantDamage(t, err, "missing")
}

func segments(t testing.TB, m *vfs.Mem) []string {
	t.Helper()
	names, err := m.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		names[i] = path.Join("log", name)
	}
	return names
}

func truncate(t testing.TB, m *vfs.Mem, name string, size int64) {
	t.Helper()
	f, err := m.OpenReadWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// wantDamage checks that err says which file is damaged, where, how, and what to do.
func wantDamage(t *testing.T, err error, text string) *seal.DamageError {
	t.Helper()
	var damage *seal.DamageError
	if !errors.As(err, &damage) {
		t.Fatalf("got %v, want a damage error", err)
	}
	if damage.File == "" || damage.Advice == "" || !strings.Contains(err.Error(), damage.File) || !strings.Contains(err.Error(), damage.Advice) {
		t.Fatalf("%q does not name file and advice", err)
	}
	if !strings.Contains(err.Error(), text) {
		t.Fatalf("got %q, want something about %q", err, text)
	}
	return damage
}

// lastRecord returns where the last record of data, which is written ahead with zeros,
// begins and ends.
func lastRecord(data []byte) (begin, end int) {
	at := seal.HeaderSize
	for at+seal.FrameHeaderSize < len(data) {
		size := int(data[at]) | int(data[at+1])<<8
		if size == 0 {
			break
		}
		begin, end = at, at+seal.FrameSize(size-16)
		at = end
	}
	return begin, end
}

// Fault 6 of the reliability promises.
func TestATornLastRecordIsCutOffAtAnyByte(t *testing.T) {
	t.Parallel()
	whole := vfs.NewMem()
	fill(t, whole, 7)
	all := segments(t, whole)
	name := all[len(all)-1]
	data := vfstest.ReadFile(t, whole, name)
	begin, end := lastRecord(data)
	for at := begin; at < end; at++ {
		for kind, torn := range map[string][]byte{
			"the file ends": data[:at],
			"zeros follow":  append(data[:at:at], make([]byte, len(data)-at)...),
		} {
			m := whole.Copy()
			vfstest.WriteFile(t, m, name, torn)
			r, err := reopen(m, 0)
			if err != nil {
				t.Fatalf("%s %d bytes into the record: %v", kind, at-begin, err)
			}
			wantEntries(t, r, 1, 6)
			if at > begin && (r.Cut == nil || r.Cut.File != name || r.Cut.Offset != int64(begin)) {
				t.Fatalf("%s %d bytes into the record: cut %+v, want offset %d", kind, at-begin, r.Cut, begin)
			}
			if _, err := reopen(m, 0); err != nil { // and again, with segments behind it
				t.Fatal(err)
			}
		}
	}
}

// Fault 7 of the reliability promises.
func TestAFlippedBitIsNeverTakenForACrash(t *testing.T) {
	t.Parallel()
	whole := vfs.NewMem()
	fill(t, whole, 20)
	names := segments(t, whole)
	if len(names) < 2 {
		t.Fatalf("the log has %d segments, want several", len(names))
	}
	for i, name := range names {
		data := vfstest.ReadFile(t, whole, name)
		_, end := lastRecord(data)
		for at := range data {
			m := whole.Copy()
			flipped := slices.Clone(data)
			flipped[at] ^= 1 << (at % 8)
			vfstest.WriteFile(t, m, name, flipped)
			r, err := reopen(m, 0)
			if at >= end { // space that was only written ahead
				if err != nil {
					t.Fatalf("byte %d of the unused end of %s: %v", at-end, name, err)
				}
				wantEntries(t, r, 1, 20)
				continue
			}
			if err == nil {
				t.Fatalf("byte %d of segment %d of %d is altered, and the log opens with %d entries", at, i+1, len(names), len(r.Entries))
			}
			damage := wantDamage(t, err, "")
			if damage.File != name || damage.Offset > int64(at) {
				t.Fatalf("byte %d of %s is altered, and the error is %q", at, name, err)
			}
		}
	}
}

// Fault 7 of the reliability promises.
func TestAHoleBeforeALaterBatchIsFatalEvenIfItLooksTorn(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	flush(t, l, nil, entry(2, 1, strings.Repeat("a", 900)))
	flush(t, l, nil, entry(3, 1, "b"))
	name := segments(t, m)[0]
	data := vfstest.ReadFile(t, m, name)
	clear(data[512:1024]) // a lost sector of what was synced
	vfstest.WriteFile(t, m, name, data)
	_, err := reopen(m, 0)
	wantDamage(t, err, "a good one follows")
}

func TestWhatIsWrongWithALogIsSaid(t *testing.T) {
	t.Parallel()
	whole := vfs.NewMem()
	fill(t, whole, 40)
	names := segments(t, whole)
	for _, c := range []struct {
		name  string
		spoil func(m *vfs.Mem, cfg *wal.Config)
		after uint64
		file  string
		says  string
	}{
		{"a missing segment in the middle", func(m *vfs.Mem, _ *wal.Config) { remove(t, m, names[1]) }, 0, names[1], "missing"},
		{"a missing first segment", func(m *vfs.Mem, _ *wal.Config) { remove(t, m, names[0]) }, 0, names[0], "missing"},
		{"a segment that lost its end", func(m *vfs.Mem, _ *wal.Config) {
			_, end := lastRecord(vfstest.ReadFile(t, m, names[0]))
			truncate(t, m, names[0], int64(end-8))
		}, 0, names[0], "gone"},
		{"a segment that lost its last record", func(m *vfs.Mem, _ *wal.Config) {
			begin, _ := lastRecord(vfstest.ReadFile(t, m, names[0]))
			truncate(t, m, names[0], int64(begin))
		}, 0, names[0], "gone"},
		{"an empty segment", func(m *vfs.Mem, _ *wal.Config) { truncate(t, m, names[2], 0) }, 0, names[2], "header"},
		{"a segment under another's name", func(m *vfs.Mem, _ *wal.Config) { vfstest.WriteFile(t, m, names[1], vfstest.ReadFile(t, m, names[2])) }, 0, names[1], "another name"},
		{"another key", func(_ *vfs.Mem, cfg *wal.Config) { cfg.Key = seal.Key{2} }, 0, names[len(names)-1], "swarm-node.key"},
		{"a foreign file", func(m *vfs.Mem, _ *wal.Config) {
			vfstest.WriteFile(t, m, names[2], []byte("something that somebody else put here, and of some length too"))
		}, 0, names[2], "not a file of this kind"},
		{"a newer format", func(m *vfs.Mem, _ *wal.Config) {
			vfstest.WriteFile(t, m, names[2], newer(vfstest.ReadFile(t, m, names[2])))
		}, 0, names[2], "newer"},
		{"a snapshot beyond the log", func(*vfs.Mem, *wal.Config) {}, 41, names[len(names)-1], "before the snapshot at 41"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := whole.Copy()
			cfg := config(m)
			c.spoil(m, &cfg)
			before := m.Copy()
			_, _, err := wal.Open(cfg, c.after)
			if damage := wantDamage(t, err, c.says); damage.File != c.file {
				t.Errorf("%q is about %s, want %s", err, damage.File, c.file)
			}
			for _, name := range segments(t, before) {
				if !slices.Equal(vfstest.ReadFile(t, before, name), vfstest.ReadFile(t, m, name)) {
					t.Errorf("opening a damaged log changed %s", name)
				}
			}
		})
	}
}

func remove(t *testing.T, m *vfs.Mem, name string) {
	t.Helper()
	if err := m.Remove(name); err != nil {
		t.Fatal(err)
	}
}

// newer returns a segment that says that it is of a format of the future.
func newer(data []byte) []byte {
	header, _, err := seal.New(seal.Kind{Magic: string(data[:8]), Format: 2}, seal.Key{1})
	if err != nil {
		panic(err)
	}
	return append(header, data[seal.HeaderSize:]...)
}

func TestWhatAnOldBackupLacksInTheMiddleIsNotMissedBehindASnapshot(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	fill(t, m, 60)
	names := segments(t, m)
	remove(t, m, names[1]) // as a crash can leave it when old segments are removed
	r, err := reopen(m, 50)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 51, 60)
}

// TestTwoFuturesOfOneBackupShareNoNonce opens a log and a copy of it, as a backup that is restored
// beside or after the original is, and lets each go its own way: what both had stays as it is, and
// what each adds is in files that are sealed with a salt of their own, even where both add the same.
// Fault 30 of the reliability promises: no nonce is used twice with one key.
func TestTwoFuturesOfOneBackupShareNoNonce(t *testing.T) {
	t.Parallel()
	backup := vfs.NewMem()
	fill(t, backup, 20)
	// A backup of a machine that runs ends in the middle of what is written ahead, or of a record.
	whole := segments(t, backup)
	name := whole[len(whole)-1]
	begin, end := lastRecord(vfstest.ReadFile(t, backup, name))
	for what, size := range map[string]int{"after a record": end, "in the middle of one": (begin + end) / 2} {
		image := backup.Copy()
		truncate(t, image, name, int64(size))
		salts := map[string]string{} // of files that were added
		for future := range 3 {
			m := image.Copy()
			l, r, err := wal.Open(config(m), 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(30) {
				flush(t, l, &wal.HardState{Term: 2, Commit: r.LastIndex}, entry(r.LastIndex+1+i, 2, "the same entry in all"))
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			added := 0
			for _, file := range segments(t, m) {
				data := vfstest.ReadFile(t, m, file)
				if slices.Contains(whole, file) {
					if old := vfstest.ReadFile(t, image, file); !bytes.HasPrefix(old, data) {
						t.Errorf("%s, future %d: something was sealed in %s, which was there before", what, future, file)
					}
					continue
				}
				added++
				salt := string(data[16:48])
				if other := salts[salt]; other != "" {
					t.Errorf("%s, future %d: %s has the salt of %s", what, future, file, other)
				}
				salts[salt] = fmt.Sprintf("%s of future %d", file, future)
			}
			if added < 2 {
				t.Errorf("%s, future %d: %d files were added, which proves little", what, future, added)
			}
		}
	}
}

// Fault 11 of the reliability promises.
func TestAfterAFailedSyncTheLogTakesNothingMore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		rule vfs.Rule
		want error
	}{
		{"sync", vfs.Rule{Op: vfs.OpSync, Count: 1, Err: syscall.EIO}, syscall.EIO},
		{"write", vfs.Rule{Op: vfs.OpWrite, Count: 1, Err: syscall.EIO}, syscall.EIO},
		{"no space", vfs.Rule{Op: vfs.OpWrite, Count: 1, Err: syscall.ENOSPC}, syscall.ENOSPC},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := vfs.NewMem()
			l := create(t, m)
			flush(t, l, nil, entry(2, 1, "a"))
			m.Inject(c.rule)
			l.Append(nil, []*raftpb.Entry{entry(3, 1, "b")})
			_, err := l.Flush()
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), segments(t, m)[0]) {
				t.Fatalf("got %v, want %v and the name of the file", err, c.want)
			}
			l.Append(nil, []*raftpb.Entry{entry(4, 1, "c")})
			if _, again := l.Flush(); !errors.Is(again, c.want) {
				t.Fatalf("the next flush got %v, want the same error", again)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			// A new process on the same machine reads what is in the page cache. What
			// it takes for good must be on the disk afterwards.
			r, err := reopen(m, 0)
			if err != nil {
				t.Fatal(err)
			}
			for what, image := range m.CrashImages() {
				after, err := reopen(image, 0)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if says(after.Entries) != says(r.Entries) {
					t.Fatalf("%s: %q was recovered, and is %q after a power cut", what, says(r.Entries), says(after.Entries))
				}
			}
		})
	}
}

// Fault 10 of the reliability promises: an append.
func TestAFullDiskIsNoticedBeforeARecordIsWritten(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l := create(t, m)
	m.SetCapacity(m.Used())
	var err error
	last := uint64(1)
	for err == nil {
		l.Append(nil, []*raftpb.Entry{entry(last+1, 1, "some data")})
		if _, err = l.Flush(); err == nil {
			last++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want ENOSPC", err)
	}
	m.SetCapacity(0)
	r, err := reopen(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantEntries(t, r, 1, last)
	if r.Cut != nil {
		t.Errorf("%+v was cut off, want nothing to be half written", r.Cut)
	}
}

// TestEveryCrashImageHasWhatWasAcknowledged looks at the disk before each operation that
// the log makes, in every state a power cut could leave.
// Fault 5 of the reliability promises: the log.
func TestEveryCrashImageHasWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	if err := vfs.MakeDir(m, "log"); err != nil {
		t.Fatal(err)
	}
	var acked, inFlight []*raftpb.Entry
	images := 0
	check := func() {
		t.Helper()
		for what, image := range m.CrashImages() {
			images++
			r, err := reopen(image, 0)
			if errors.Is(err, wal.ErrNone) && len(acked) == 0 {
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if got := says(r.Entries); got != says(acked) && got != says(inFlight) {
				t.Fatalf("%s: got %q, want %q or %q", what, got, says(acked), says(inFlight))
			}
		}
	}
	m.Trace(func(vfs.Op, string) { check() })

	inFlight = []*raftpb.Entry{entry(1, 1, "first")}
	cfg := config(m)
	cfg.SegmentBytes, cfg.AheadBytes = 700, 512
	l, err := wal.Create(cfg, id, owner, wal.HardState{Term: 1}, inFlight)
	if err != nil {
		t.Fatal(err)
	}
	acked = inFlight
	for _, batch := range [][]*raftpb.Entry{
		{entry(2, 1, "a")},
		{entry(3, 1, "b"), entry(4, 1, strings.Repeat("c", 200))},
		{entry(4, 2, "C")},
		{entry(5, 2, strings.Repeat("d", 700))},
		{entry(6, 2, "e")},
		{entry(7, 2, "f")},
	} {
		at := batch[0].GetIndex() - 1
		inFlight = append(acked[:at:at], batch...)
		flush(t, l, &wal.HardState{Term: batch[0].GetTerm(), Commit: at}, batch...)
		acked = inFlight
		check()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := reopen(m, 0); err != nil { // recovery may be cut short too
		t.Fatal(err)
	}
	check()
	if n := len(segments(t, m)); n < 3 {
		t.Errorf("the log has %d segments, want the images to have seen some begin", n)
	}
	t.Logf("%d images", images)
}

// TestRandomCrashesOneAfterAnotherLoseNothing cuts the power again and again, also during
// recovery.
// Fault 5 of the reliability promises: the log.
func TestRandomCrashesOneAfterAnotherLoseNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		var story []string
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\n%s", seed, fmt.Sprintf(format, args...), strings.Join(story, "\n"))
		}
		m := vfs.NewMem()
		l := create(t, m)
		acked := []*raftpb.Entry{entry(1, 1, "first")}
		released := uint64(0)
		for round := range 6 {
			// The power goes at some operation; the disk is what it is at that moment,
			// and what is acknowledged later does not count.
			left := 1 + r.IntN(40)
			var crashed *vfs.Mem
			m.Trace(func(op vfs.Op, name string) {
				if left--; left == 0 {
					story = append(story, fmt.Sprintf("round %d: power cut before %s of %s", round, op, name))
					crashed = m.Crash(r)
				}
			})
			var inFlight []*raftpb.Entry
			for crashed == nil {
				term := uint64(round + 1)
				at := uint64(len(acked))
				if r.IntN(5) == 0 && at > released+2 {
					at--
				}
				inFlight = acked[:at:at]
				for range 1 + r.IntN(3) {
					inFlight = append(inFlight, entry(uint64(len(inFlight)+1), term, strings.Repeat("x", r.IntN(900))))
				}
				l.Append(&wal.HardState{Term: term, Vote: 1, Commit: at}, inFlight[at:])
				if _, err := l.Flush(); err != nil {
					fail("flush: %v", err)
				}
				if crashed == nil {
					acked = inFlight
					story = append(story, fmt.Sprintf("round %d: %d entries", round, len(acked)))
				}
				if crashed == nil && r.IntN(8) == 0 {
					released = uint64(len(acked)) - 2
					story = append(story, fmt.Sprintf("round %d: release %d", round, released))
					if err := l.Release(released); err != nil {
						fail("release: %v", err)
					}
				}
			}
			for recovered := false; !recovered; {
				m = crashed
				crashed = nil
				if r.IntN(2) == 0 { // recovery is cut short
					left := r.IntN(8)
					m.Trace(func(vfs.Op, string) {
						if left--; left == 0 {
							crashed = m.Crash(r)
						}
					})
				}
				log, found, err := wal.Open(config(m), released)
				if err != nil {
					fail("round %d: %v", round, err)
				}
				m.Trace(nil)
				if crashed != nil {
					story = append(story, "power cut in recovery")
					continue
				}
				got := says(found.Entries)
				switch {
				case got == says(acked[released:]):
				case got == says(inFlight[released:]):
					acked = inFlight
				default:
					fail("round %d: got %q\nwant %q\nor %q", round, got, says(acked[released:]), says(inFlight[released:]))
				}
				l, recovered = log, true
			}
		}
	}
}

func TestALogThatEndsBeforeASnapshotOfAnotherMemberIsWhole(t *testing.T) {
	t.Parallel()
	received := func(fsys vfs.FS, term uint64) wal.Config {
		cfg := config(fsys)
		cfg.Restart = &term
		return cfg
	}
	t.Run("a crash before it begins anew", func(t *testing.T) {
		t.Parallel()
		for name, c := range map[string]struct{ index, term, behind uint64 }{
			"the log ends before":               {50, 3, 50},
			"the log has another entry there":   {29, 3, 29},
			"the log has the entry":             {20, 1, 0},
			"the log has the entry, and is all": {30, 1, 0},
		} {
			m := vfs.NewMem()
			fill(t, m, 30)
			found, err := wal.Inspect(received(m, c.term), c.index)
			if err != nil || found.Behind != c.behind || len(found.Entries) != 30 {
				t.Errorf("%s: %d entries, behind %d, %v, want 30 and %d", name, len(found.Entries), found.Behind, err, c.behind)
			}
			if c.behind > 0 && (found.LastIndex != c.index || found.LastTerm != c.term || found.State.Commit < c.index) {
				t.Errorf("%s: it is said to go on after %d.%d, with %+v", name, found.LastIndex, found.LastTerm, found.State)
			}
		}
	})
	t.Run("a crash before the old segments are removed", func(t *testing.T) {
		t.Parallel()
		for _, at := range []uint64{29, 30, 50} {
			m := vfs.NewMem()
			fill(t, m, 30)
			l, _, err := wal.Open(config(m), 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Restart(at, 3, nil); err != nil {
				t.Fatal(err)
			}
			flush(t, l, nil, entry(at+1, 3, "anew"))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			found, err := wal.Inspect(received(m, 3), at)
			if err != nil || found.Behind != 0 || found.BeforeIndex != at || says(found.Entries) != fmt.Sprintf("%d.3=anew ", at+1) || len(found.Unused) == 0 {
				t.Errorf("at %d: %q after %d, unused %q, %v", at, says(found.Entries), found.BeforeIndex, found.Unused, err)
			}
		}
	})
	t.Run("a snapshot of its own", func(t *testing.T) {
		t.Parallel()
		m := vfs.NewMem()
		fill(t, m, 30)
		if _, err := wal.Inspect(config(m), 50); err == nil {
			t.Error("a log that ends before a snapshot of this member is said to be whole")
		}
	})
}
