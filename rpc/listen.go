package rpc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"skep/model"
)

const (
	socketMode = 0o660
	// maxSocketPath is what the system's socket address has room for.
	maxSocketPath = 107
	probeTimeout  = time.Second
)

// ListenLocal makes the unix socket path with mode 0660, and its directory with
// mode 0700 if there is none. The socket of a process that has ended is replaced;
// one that somebody serves, or any other file, is refused. Close removes the
// socket if it is still this one, and closes connections that speak no HTTP/2 yet.
func ListenLocal(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, model.Errorf(model.Invalid, "socket %s: its path has %d bytes, the system takes at most %d: choose a shorter one with --listen-control-api",
			path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	// Of two that start at once, one looks and binds, then the other looks.
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	defer unlock()
	if err := clearSocket(path); err != nil {
		return nil, err
	}
	bound, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	bound.SetUnlinkOnClose(false)
	l := &localListener{UnixListener: bound, path: path}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on socket %s: %w", path, err), l.Close())
	}
	if l.file, err = os.Lstat(path); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on socket %s: %w", path, err), l.Close())
	}
	return newArrivals(l), nil
}

// clearSocket removes a socket that nobody serves.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen on socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return model.Errorf(model.Precondition, "socket %s: there is a file of another kind with that name, and it is left alone: remove it, or choose another path with --listen-control-api", path)
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		_ = conn.Close() // it was only to see whether somebody is there
		fallthrough
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
		return model.Errorf(model.Precondition, "socket %s is served by another process: stop that one, or choose another path with --listen-control-api", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("socket %s: it exists, and whether it is served cannot be told: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the stale socket %s: %w", path, err)
	}
	return nil
}

// lockDir takes the advisory lock of a directory until unlock.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), d.Close())
	}
	return func() { _ = d.Close() }, nil // closing unlocks; nothing was written
}

// localListener removes its socket when it is closed, and only its own.
type localListener struct {
	*net.UnixListener
	path string
	file os.FileInfo
	once sync.Once
	err  error
}

func (l *localListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && l.file != nil && os.SameFile(now, l.file) {
			l.err = os.Remove(l.path)
		}
		l.err = errors.Join(l.UnixListener.Close(), l.err)
	})
	return l.err
}

// ListenRemote listens on a TCP address, "host:port". Close closes connections that
// speak no HTTP/2 yet, too.
func ListenRemote(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, model.Errorf(model.Precondition, "address %s is taken by another process: stop that one, or choose another with --listen-remote-api", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, model.Errorf(model.Precondition, "address %s is none of this machine's: choose another with --listen-remote-api", addr)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return newArrivals(l.(*net.TCPListener)), nil
}
