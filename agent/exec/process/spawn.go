package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spawnTime bounds how long a parent may take to answer.
const spawnTime = 30 * time.Second

// spawn starts the parent of a task, hands it what is taken, and returns its
// report.
func spawn(plan plan, taken []reservation) (report, error) {
	stdin, err := newPipe()
	if err != nil {
		return report{}, err
	}
	defer stdin.close()
	answer, err := newPipe()
	if err != nil {
		return report{}, err
	}
	defer answer.close()
	complaints, err := os.OpenFile(plan.Directory.path(errorFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return report{}, err
	}
	defer func() { _ = complaints.Close() }()

	files := []*os.File{stdin.read, complaints, complaints, answer.write}
	for _, r := range taken {
		if r.held != nil {
			files = append(files, r.held)
			plan.Reserved++
		}
	}
	parent, err := os.StartProcess("/proc/self/exe", []string{parentName, plan.Task}, &os.ProcAttr{
		Dir: "/",
		// It stays small: it has next to nothing to compute or to collect.
		Env:   []string{"GOMAXPROCS=1", "GOGC=25"},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return report{}, fmt.Errorf("start the parent: %w", err)
	}
	// Only the parent holds these ends from here on: that it is gone is an error of
	// the other ends.
	_ = stdin.read.Close()
	_ = answer.write.Close()

	deadline := time.Now().Add(spawnTime)
	_ = stdin.write.SetWriteDeadline(deadline)
	_ = answer.read.SetReadDeadline(deadline)
	err = json.NewEncoder(stdin.write).Encode(plan)
	_ = stdin.write.Close()
	var r report
	if err == nil {
		err = json.NewDecoder(answer.read).Decode(&r)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("the parent does not answer: %w", err), parent.Kill())
	}
	if err != nil || r.Already || r.Error != "" {
		_, waited := parent.Wait()
		if err == nil && r.Error != "" {
			err = errors.New(r.Error)
		} else if err != nil {
			err = errors.Join(fmt.Errorf("%w%s", err, complaint(plan.Directory)), waited)
		}
		return r, err
	}
	// Who waits for it does so through its identity.
	_ = parent.Release()
	return r, nil
}

// collect ends the existence of a child of this process that has ended.
func collect(pid int) { _, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) }

// complaint is what a parent said before it failed, if that can be told.
func complaint(dir directory) string {
	data, _ := os.ReadFile(dir.path(errorFile))
	text, _, _ := strings.Cut(string(data), "\n")
	if text == "" {
		return ""
	}
	return ": " + text
}
