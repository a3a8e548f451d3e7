package process

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells when something in a directory changes, until its context ends.
type watcher struct {
	file *os.File
	stop func() bool
}

// watch watches from now on: what changes before the first wait ends that wait.
func watch(ctx context.Context, dir string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w; more instances are allowed with sysctl fs.inotify.max_user_instances", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_ONLYDIR); err != nil {
		_ = file.Close()
		return nil, &os.PathError{Op: "inotify", Path: dir, Err: err}
	}
	return &watcher{file: file, stop: context.AfterFunc(ctx, func() {
		_ = file.SetReadDeadline(time.Unix(1, 0))
	})}, nil
}

// wait returns when something has changed, or with an error. Several changes
// are one.
func (w *watcher) wait() error {
	var events [4096]byte
	_, err := w.file.Read(events[:])
	return err
}

func (w *watcher) close() {
	w.stop()
	_ = w.file.Close()
}
