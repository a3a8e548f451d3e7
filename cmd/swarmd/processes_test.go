package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// scriptProcess is a process that a script started, itself or through swarmd.
type scriptProcess struct {
	pid     int
	command string
}

// processesOf finds the processes whose home is work, and those that hold files
// below it open: the parents of tasks.
func processesOf(work string) []scriptProcess {
	return running(func(pid int) bool { return lives(pid, work) || holds(pid, work) })
}

func running(which func(pid int) bool) []scriptProcess {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []scriptProcess
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !runs(pid) || !which(pid) {
			continue
		}
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		out = append(out, scriptProcess{pid, string(bytes.ReplaceAll(command, []byte{0}, []byte{' '}))})
	}
	return out
}

func lives(pid int, home string) bool {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return string(v) == "HOME="+home })
}

func holds(pid int, dir string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(files, func(fd string) bool {
		file, err := os.Readlink(fd)
		return err == nil && strings.HasPrefix(file, dir+"/")
	})
}

// runs reports whether a process runs: one that has ended and is not
// collected yet does not.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, ok := bytes.Cut(stat, []byte(") "))
	return ok && len(state) > 0 && state[0] != 'Z' && state[0] != 'X'
}

// killAll ends what a script left: one that failed half-way leaves all it has.
// New ones may appear meanwhile, so it goes on until there are none.
func killAll(work string) {
	for range 100 {
		left := processesOf(work)
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}
