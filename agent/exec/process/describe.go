package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"skep/api"
)

// Labels of the node that say what its machine offers.
const (
	// LabelLimits is "cgroup v1", "cgroup v2", or "none: " and a reason.
	LabelLimits = "skep.process.limits"
	// LabelSecrets is where secrets lie: "memory: " or "disk: " and a directory.
	LabelSecrets = "skep.process.secrets"
)

// Describe implements exec.Executor.
func (e *Executor) Describe(context.Context) (*api.NodeDescription, error) {
	hostname := e.config.Hostname
	if hostname == "" {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("describe the node: %w", err)
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("describe the node: %w", err)
	}
	memory, err := memoryBytes()
	if err != nil {
		return nil, fmt.Errorf("describe the node: %w", err)
	}
	return &api.NodeDescription{
		Hostname: hostname,
		Platform: &api.Platform{
			Architecture: string(bytes.TrimRight(name.Machine[:], "\x00")),
			Os:           runtime.GOOS,
		},
		Resources: &api.Resources{
			NanoCpus:    int64(runtime.NumCPU()) * 1e9,
			MemoryBytes: memory,
			Generic:     e.config.Generic,
		},
		Engine: &api.EngineDescription{
			EngineVersion: e.config.Version,
			Labels: map[string]string{
				LabelLimits:  e.limiter.note,
				LabelSecrets: e.secretsNote(),
			},
			Plugins: []*api.PluginDescription{{Type: "Runtime", Name: kind}},
		},
	}, nil
}

func (e *Executor) secretsNote() string {
	if e.config.FilesDir == "" {
		return "disk: " + e.config.Dir + " (no tmpfs on /dev/shm or /run that swarmd may write to)"
	}
	return "memory: " + e.config.FilesDir
}

// memoryBytes returns how much memory the machine has.
func memoryBytes() (int64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line) // "MemTotal: 1234 kB"
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("no MemTotal in /proc/meminfo")
}
