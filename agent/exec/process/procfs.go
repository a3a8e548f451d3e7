package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// identity names one process for as long as the machine is up. A pid alone does
// not: it is used again. After a restart both may be those of a stranger: bootID
// tells.
type identity struct {
	Pid int `json:"pid"`
	// Start is when it started, in clock ticks after boot.
	Start uint64 `json:"start"`
}

func identityOf(pid int) (identity, error) {
	s, err := readStat(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{Pid: pid, Start: s.start}, nil
}

// bootID is another after each start of the machine. It is empty where the
// kernel does not tell.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// stat is the part of /proc/PID/stat that is of use here.
type stat struct {
	state   byte
	ppid    int
	group   int
	session int
	start   uint64
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

// parseStat reads proc_pid_stat(5). The second field is the command in
// parentheses and may contain anything, so fields are counted from its end.
func parseStat(data []byte) (stat, error) {
	end := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[end+1:])
	const first, start = 3, 22 // the field after the command; that of the start time
	if end < 0 || len(fields) <= start-first {
		return stat{}, fmt.Errorf("parse the status of a process: %q", data)
	}
	s := stat{state: fields[0][0]}
	for n, target := range map[int]*int{4: &s.ppid, 5: &s.group, 6: &s.session} {
		value, err := strconv.Atoi(string(fields[n-first]))
		if err != nil {
			return stat{}, fmt.Errorf("parse field %d of the status of a process: %w", n, err)
		}
		*target = value
	}
	value, err := strconv.ParseUint(string(fields[start-first]), 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("parse field %d of the status of a process: %w", start, err)
	}
	s.start = value
	return s, nil
}

// pids returns the processes of the machine.
func pids() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // nothing was written
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}
