package process

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells when something in a directory changes, until its context ends.
type watcher struct {
	file *os.File // nil: it has to look from time to time
	stop func() bool
}

// lookAgain is how often a watcher looks that is not told: the kernel gives a
// user only so many inotify instances (fs.inotify.max_user_instances).
const lookAgain = 200 * time.Millisecond

// watch watches from now on: what changes before the first wait ends that wait.
func watch(ctx context.Context, dir string) *watcher {
	w := &watcher{}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	file := os.NewFile(uintptr(fd), "inotify")
	const events = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE_SELF
	if _, err := unix.InotifyAddWatch(fd, dir, events); err != nil {
		_ = file.Close()
		return w
	}
	w.file = file
	w.stop = context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	return w
}

// wait returns when something may have changed, and with an error when the
// context has ended. Several changes are one.
func (w *watcher) wait(ctx context.Context) error {
	if w.file == nil {
		return sleep(ctx, lookAgain)
	}
	var events [4096]byte
	_, err := w.file.Read(events[:])
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (w *watcher) close() {
	if w.file != nil {
		w.stop()
		_ = w.file.Close()
	}
}
