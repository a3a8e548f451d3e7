package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handle is a process that cannot be mistaken for another: it stays the same
// process when the pid is used again. Waiting on it costs no thread.
type handle struct {
	file *os.File
	conn syscall.RawConn
}

// errGone says that the process does not exist any more.
var errGone = errors.New("the process is gone")

// open returns a handle of the process, or errGone. Another error says nothing
// about the process.
func open(id identity) (*handle, error) {
	fd, err := unix.PidfdOpen(id.Pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) && id.Pid <= 0 {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", id.Pid, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	// The pid is held by now. If its start time is another one, so is the process.
	switch s, err := readStat(id.Pid); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH), err == nil && s.start != id.Start:
		_ = file.Close()
		return nil, errGone
	case err != nil:
		_ = file.Close()
		return nil, fmt.Errorf("open process %d: %w", id.Pid, err)
	}
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open process %d: %w", id.Pid, err)
	}
	return &handle{file: file, conn: conn}, nil
}

// wait returns true when the process has ended, and false after interrupt.
func (h *handle) wait() bool {
	return h.conn.Read(func(fd uintptr) bool { return ended(int(fd)) }) == nil
}

// waitUntil is wait with an end.
func (h *handle) waitUntil(deadline time.Time) bool {
	return h.file.SetReadDeadline(deadline) == nil && h.wait()
}

// ended reports whether the process of a pidfd has ended.
func ended(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// interrupt makes wait return, now and from now on.
func (h *handle) interrupt() { _ = h.file.SetReadDeadline(time.Unix(1, 0)) }

// signal sends a signal. A process that has ended is no error.
func (h *handle) signal(signal syscall.Signal) error {
	var err error
	control := h.conn.Control(func(fd uintptr) {
		err = unix.PidfdSendSignal(int(fd), signal, nil, 0)
	})
	if err = errors.Join(control, err); errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func (h *handle) close() { _ = h.file.Close() }
