package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// hierarchy is a cgroup file system in which this machine's limits are made.
type hierarchy struct {
	// base is the directory in which each task has its cgroup.
	base string
	// home is the cgroup of the agent, to which a parent goes back.
	home string
	v2   bool
	// cpu and memory are what this hierarchy controls.
	cpu, memory bool
}

// cgroup is a task's cgroup in one hierarchy.
type cgroup struct {
	Path string `json:"path"`
	Home string `json:"home"`
}

// limiter makes limits, or says why it does not.
type limiter struct {
	hierarchies []hierarchy
	// note is the label of the node: "cgroup v2", or "none: " and a reason.
	note string
}

// cgroupRoot has a cgroup for each task that has limits.
const cgroupRoot = "skep"

// newLimiter finds out what this machine lets us do.
func newLimiter() limiter {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return limiter{note: "none: " + err.Error()}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return limiter{note: "none: " + err.Error()}
	}
	found := hierarchies(mounts, own)
	if len(found) == 0 {
		return limiter{note: "none: no cgroup controllers for cpu and memory are mounted; mount cgroup2 on /sys/fs/cgroup"}
	}
	for _, h := range found {
		if err := h.usable(); err != nil {
			return limiter{note: fmt.Sprintf("none: %v; run swarmd as root", err)}
		}
	}
	if found[0].v2 {
		return limiter{hierarchies: found, note: "cgroup v2"}
	}
	return limiter{hierarchies: found, note: "cgroup v1"}
}

// hierarchies returns those that control cpu and memory, from the contents of
// /proc/self/mountinfo and /proc/self/cgroup: one of version 2 if it has both
// controllers, else those of version 1, if both are there.
func hierarchies(mounts, own []byte) []hierarchy {
	paths := make(map[string]string) // controller, "" for version 2 → our cgroup
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			paths[controller] = fields[2]
		}
	}
	var v1 []hierarchy
	var cpu, memory bool
	scanner := bufio.NewScanner(bytes.NewReader(mounts))
	for scanner.Scan() {
		// "ID PARENT DEV ROOT MOUNTPOINT OPTIONS [tags] - TYPE SOURCE SUPEROPTIONS", proc_pid_mountinfo(5).
		before, after, ok := strings.Cut(scanner.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		root, mount := head[3], head[4]
		h := hierarchy{base: filepath.Join(mount, cgroupRoot)}
		switch tail[0] {
		case "cgroup2":
			controllers, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
			if err != nil {
				continue
			}
			names := strings.Fields(string(controllers))
			if slices.Contains(names, "cpu") && slices.Contains(names, "memory") {
				h.v2, h.cpu, h.memory, h.home = true, true, true, below(mount, root, paths[""])
				return []hierarchy{h}
			}
		case "cgroup":
			options := strings.Split(tail[2], ",")
			h.cpu = slices.Contains(options, "cpu") && !cpu
			h.memory = slices.Contains(options, "memory") && !memory
			controller := "cpu"
			if h.memory {
				controller = "memory"
			}
			h.home = below(mount, root, paths[controller])
			if h.cpu || h.memory {
				v1 = append(v1, h)
			}
			cpu, memory = cpu || h.cpu, memory || h.memory
		}
	}
	if !cpu || !memory {
		return nil
	}
	return v1
}

// below returns where a cgroup lies in the file system, when the cgroup root is
// mounted at mount.
func below(mount, root, cgroup string) string {
	if rel, err := filepath.Rel(root, cgroup); err == nil && filepath.IsLocal(rel) {
		return filepath.Join(mount, rel)
	}
	return mount
}

// usable tries what making a limit takes.
func (h hierarchy) usable() error {
	procs, err := os.ReadFile(filepath.Join(h.home, "cgroup.procs"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(procs)), strconv.Itoa(os.Getpid())) {
		return fmt.Errorf("the cgroup of this process is not below %s", h.home)
	}
	if err := h.prepare(); err != nil {
		return err
	}
	trial, err := os.MkdirTemp(h.base, "trial-")
	if err != nil {
		return err
	}
	err = h.limit(trial, 1e9, 1<<30)
	return errors.Join(err, os.Remove(trial))
}

// prepare makes the directory in which the tasks have theirs. It goes with the
// last executor, which may be one that others know nothing of.
func (h hierarchy) prepare() error {
	if err := os.MkdirAll(h.base, 0o755); err != nil || !h.v2 {
		return err
	}
	for _, dir := range []string{filepath.Dir(h.base), h.base} {
		if err := set(dir, "cgroup.subtree_control", "+cpu +memory"); err != nil {
			return err
		}
	}
	return nil
}

const cpuPeriod = 100_000 // µs, the kernel's default

// limit sets what this hierarchy controls; 0 is no limit.
func (h hierarchy) limit(dir string, nanoCPUs, memory int64) error {
	if h.cpu && nanoCPUs > 0 {
		quota := strconv.FormatInt(max(nanoCPUs*cpuPeriod/1e9, 1000), 10) // less than 1 ms is refused
		period := strconv.Itoa(cpuPeriod)
		if h.v2 {
			if err := set(dir, "cpu.max", quota+" "+period); err != nil {
				return err
			}
		} else if err := errors.Join(set(dir, "cpu.cfs_period_us", period), set(dir, "cpu.cfs_quota_us", quota)); err != nil {
			return err
		}
	}
	if h.memory && memory > 0 {
		name := "memory.limit_in_bytes"
		if h.v2 {
			name = "memory.max"
		}
		return set(dir, name, strconv.FormatInt(memory, 10))
	}
	return nil
}

func set(dir, name, value string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644)
}

// cgroups returns those of a task with limits: none if it has none, or if this
// machine has none to offer.
func (l limiter) cgroups(task string, nanoCPUs, memory int64) []cgroup {
	if nanoCPUs <= 0 && memory <= 0 {
		return nil
	}
	var groups []cgroup
	for _, h := range l.hierarchies {
		groups = append(groups, cgroup{Path: filepath.Join(h.base, task), Home: h.home})
	}
	return groups
}

// make makes what cgroups returned.
func (l limiter) make(groups []cgroup, nanoCPUs, memory int64) error {
	for i, g := range groups {
		if err := l.hierarchies[i].prepare(); err != nil {
			return err
		}
		if err := os.MkdirAll(g.Path, 0o755); err != nil {
			return err
		}
		if err := l.hierarchies[i].limit(g.Path, nanoCPUs, memory); err != nil {
			return err
		}
	}
	return nil
}

// close removes what is common to the limits of all tasks, when there are none.
func (l limiter) close() {
	for _, h := range l.hierarchies {
		_ = os.Remove(h.base)
	}
}

// enter moves this process into the cgroups, so that what it starts is born in
// them. leave moves it back.
func enter(groups []cgroup) error {
	for _, g := range groups {
		if err := set(g.Path, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
			return err
		}
	}
	return nil
}

func leave(groups []cgroup) error {
	var errs []error
	for _, g := range groups {
		errs = append(errs, set(g.Home, "cgroup.procs", strconv.Itoa(os.Getpid())))
	}
	return errors.Join(errs...)
}

// removeCgroups removes cgroups whose processes have ended.
func removeCgroups(groups []cgroup) error {
	var errs []error
	for _, g := range groups {
		if err := os.Remove(g.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ranOutOfMemory reports whether the kernel killed a process for the limit.
func ranOutOfMemory(groups []cgroup) bool {
	for _, g := range groups {
		for _, name := range []string{"memory.events", "memory.oom_control"} {
			data, err := os.ReadFile(filepath.Join(g.Path, name))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(data)) {
				if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == "oom_kill" && value != "0" {
					return true
				}
			}
		}
	}
	return false
}
