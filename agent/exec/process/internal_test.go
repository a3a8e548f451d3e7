package process

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/api"
)

func TestTheNameOfAProcessCannotDisguiseItsStatus(t *testing.T) {
	t.Parallel()
	line := "42 (a) S 1 2 3) R 7 8 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 1\n"
	got, err := parseStat([]byte(line))
	if want := (stat{state: 'R', ppid: 7, group: 8, session: 9, start: 4711}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, broken := range []string{"", "42 (a) R 1", strings.Replace(line, "4711", "x", 1), strings.Replace(line, "R 7", "R x", 1)} {
		if got, err := parseStat([]byte(broken)); err == nil {
			t.Errorf("%q: got %+v, want an error", broken, got)
		}
	}
}

func TestAHandleIsOfTheProcessThatWasMeant(t *testing.T) {
	t.Parallel()
	self, err := identityOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	h, err := open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if h.waitUntil(time.Now()) {
		t.Error("wait: this process has ended")
	}
	h.interrupt()
	if h.wait() {
		t.Error("wait: an interrupt did not end it")
	}
	for _, other := range []identity{{Pid: self.Pid, Start: self.Start + 1}, {Pid: 1 << 22, Start: 1}, {}} {
		if _, err := open(other); !errors.Is(err, errGone) {
			t.Errorf("%+v: got %v, want errGone", other, err)
		}
	}
}

const v1Mounts = `24 1 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:22 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
26 24 0:23 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
27 24 0:24 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
`

func TestLimitsAreMadeWhereTheControllersAre(t *testing.T) {
	t.Parallel()
	own := []byte("4:memory:/docker/abc/unit\n3:cpu,cpuacct:/system.slice\n1:name=systemd:/x\n0::/y\nrubbish\n")
	got := hierarchies([]byte(v1Mounts), own)
	want := []hierarchy{
		{base: "/sys/fs/cgroup/cpu/skep", home: "/sys/fs/cgroup/cpu/system.slice", cpu: true},
		{base: "/sys/fs/cgroup/memory/skep", home: "/sys/fs/cgroup/memory/unit", memory: true},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("version 1: got %+v, want %+v", got, want)
	}

	mount := t.TempDir()
	line := "28 1 0:25 / " + mount + " rw - cgroup2 cgroup2 rw\n"
	if got := hierarchies([]byte(line), own); got != nil {
		t.Errorf("version 2 without controllers: got %+v, want none", got)
	}
	if err := os.WriteFile(filepath.Join(mount, "cgroup.controllers"), []byte("cpuset cpu io memory\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = hierarchies([]byte(v1Mounts+line), own)
	if want := (hierarchy{base: mount + "/skep", home: mount + "/y", v2: true, cpu: true, memory: true}); len(got) != 1 || got[0] != want {
		t.Errorf("version 2: got %+v, want %+v", got, want)
	}

	for name, mounts := range map[string]string{
		"nothing":  "",
		"cpu only": strings.Join(strings.SplitAfter(v1Mounts, "\n")[:2], ""),
		"rubbish":  "a b c - d\n - \n",
	} {
		if got := hierarchies([]byte(mounts), own); got != nil {
			t.Errorf("%s: got %+v, want none", name, got)
		}
	}
}

func TestLimitsAreWrittenAsEachVersionWantsThem(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		h    hierarchy
		cpus int64
		want map[string]string
	}{
		"version 2":    {hierarchy{v2: true, cpu: true, memory: true}, 15e8, map[string]string{"cpu.max": "150000 100000", "memory.max": "1024"}},
		"cpu of 1":     {hierarchy{cpu: true}, 5e8, map[string]string{"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}},
		"very little":  {hierarchy{cpu: true}, 1, map[string]string{"cpu.cfs_quota_us": "1000", "cpu.cfs_period_us": "100000"}},
		"memory of 1":  {hierarchy{memory: true}, 5e8, map[string]string{"memory.limit_in_bytes": "1024"}},
		"no cpu limit": {hierarchy{v2: true, cpu: true, memory: true}, 0, map[string]string{"memory.max": "1024"}},
	} {
		dir := t.TempDir()
		if err := c.h.limit(dir, c.cpus, 1024); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(c.want) {
			t.Errorf("%s: got %v, %v; want %v", name, entries, err, c.want)
		}
		for file, want := range c.want {
			if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
				t.Errorf("%s: %s: got %q, %v; want %q", name, file, got, err, want)
			}
		}
	}
}

func TestAPortThatSomebodyUsesIsNotGiven(t *testing.T) {
	t.Parallel()
	var p ports
	first, err := p.take([]*api.PortConfig{{PublishedPort: 80}, {}, {Protocol: api.PortConfig_UDP}})
	if err != nil || len(first) != 3 || first[0].number != 80 || first[1].number == first[2].number {
		t.Fatalf("got %v, %v; want 80 and two others", first, err)
	}
	defer giveBack(first)
	// Another agent comes to the same number, which is reserved but not in use.
	var other ports
	other.next.Store(first[1].number - firstPort - 1)
	second, err := other.take([]*api.PortConfig{{}})
	if err != nil || second[0].number == first[1].number {
		t.Fatalf("got %v, %v; want another than %d", second, err, first[1].number)
	}
	// One that is in use, but not reserved.
	listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", second[0].number))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	giveBack(second)
	other.next.Store(second[0].number - firstPort - 1)
	third, err := other.take([]*api.PortConfig{{}})
	if err != nil || third[0].number == second[0].number {
		t.Errorf("got %v, %v; want another than %d", third, err, second[0].number)
	}
	giveBack(third)
}

// FuzzRecords: what goes into the log comes out of it, and no file makes the
// reader do worse than leave a line out.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nthree"))
	f.Add([]byte("2026-01-02T15:04:05.000000000Z stdout F x\n"))
	now := time.Unix(1_700_000_000, 42).UTC()
	f.Fuzz(func(t *testing.T, data []byte) {
		var out []byte
		for line := range bytes.Lines(appendRecords(nil, "stderr", now, data)) {
			message, err := parseRecord(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil || !message.Time.Equal(now) || message.Stream != api.LogStream_LOG_STREAM_STDERR {
				t.Fatalf("%q: got %v, %v", line, message, err)
			}
			out = append(out, message.Data...)
		}
		if !bytes.Equal(out, data) {
			t.Fatalf("got %q, want %q", out, data)
		}
		if message, err := parseRecord(data); err == nil && message.Time.IsZero() {
			t.Fatalf("%q: got %v", data, message)
		}
	})
}
