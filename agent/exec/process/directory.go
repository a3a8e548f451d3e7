package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// directory is where a task keeps what must outlive the agent.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

const (
	lockFile     = "lock"
	runFile      = "run.json"
	exitFile     = "exit.json"
	holdingsFile = "holdings.json"
	errorFile    = "parent.err"
	workDir      = "work"
	filesDir     = "files"
	logPrefix    = "log."
)

// runRecord says who runs the task. Process is zero until it is started.
type runRecord struct {
	// Boot says since which start of the machine. A record from before there was
	// this field has none, and counts as one of the present: pid and start time
	// alone decide then.
	Boot    string   `json:"boot,omitempty"`
	Parent  identity `json:"parent"`
	Process identity `json:"process"`
}

// exitRecord says how the task ended.
type exitRecord struct {
	// Code is the exit code, 128 + N when signal N ended the process.
	Code int       `json:"code"`
	Time time.Time `json:"time"`
	// Cause says more than the code, if there is more to say.
	Cause string `json:"cause,omitempty"`
	// Lost: the parent left no record. The code means nothing.
	Lost bool `json:"lost,omitempty"`
}

// holdings are what a task holds outside its directory.
type holdings struct {
	// Ports are the numbers of its host-mode ports, in their order.
	Ports []uint32 `json:"ports,omitempty"`
	// Files is the directory of secrets and configs.
	Files string `json:"files,omitempty"`
	// Work is the working directory, if it is not in the task's directory.
	Work    string   `json:"work,omitempty"`
	Cgroups []cgroup `json:"cgroups,omitempty"`
}

// write leaves value in the file, whole or not at all.
func (d directory) write(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", d.path(name), err)
	}
	beside := d.path(name + ".new")
	if err := os.WriteFile(beside, data, 0o600); err != nil {
		return err
	}
	return os.Rename(beside, d.path(name))
}

// errDamaged says that a file is there and cannot be understood.
var errDamaged = errors.New("the file is damaged")

// read fills value from the file and reports whether there is one. An error that
// is not errDamaged says nothing about the file.
func (d directory) read(name string, value any) (bool, error) {
	data, err := os.ReadFile(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return false, fmt.Errorf("read %s: %w: %w", d.path(name), errDamaged, err)
	}
	return true, nil
}
