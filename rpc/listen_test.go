package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/client"
)

// Fault 47 of the reliability promises: its permissions.
func TestTheSocketIsMadeForItsOwnerAndGroup(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made")
	path := filepath.Join(dir, "swarmd.sock")
	l, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, path: fs.ModeSocket | 0o660} {
		if info, err := os.Lstat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", name, info.Mode(), err, want)
		}
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

// Fault 47 of the reliability promises.
func TestWhatStandsInTheSocketsPlace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		put  func(t *testing.T, path string)
		want string // empty: it is replaced
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"the socket of an ended process", func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"a socket that is served", func(t *testing.T, path string) {
			l, err := ListenLocal(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, "served by another process"},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "file of another kind"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "file of another kind"},
		{"a link to a file", func(t *testing.T, path string) {
			if err := os.Symlink("/etc/hosts", path); err != nil {
				t.Fatal(err)
			}
		}, "file of another kind"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			test.put(t, path)
			before, _ := os.Lstat(path)
			l, err := ListenLocal(path)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "--listen-control-api") || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v", err)
			}
		})
	}
}

// Fault 47 of the reliability promises: it was removed while it was served.
func TestClosingLeavesTheSocketOfASuccessor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	first, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// TestASocketThatWasRemovedWhileItWasServedIsMadeAnew removes the socket of a server that runs. Who
// is connected stays so; whoever starts there next gets a socket of its own, with its own mode, and
// the first one's end does not take it away.
// Fault 47 of the reliability promises.
func TestASocketThatWasRemovedWhileItWasServedIsMadeAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	listen := func() (end func(), calls *atomic.Int64) {
		t.Helper()
		l, err := ListenLocal(path)
		if err != nil {
			t.Fatal(err)
		}
		calls = &atomic.Int64{}
		g, err := NewServer(Config{Credentials: LocalCredentials(nil), Local: func() Identity { return Identity{} }},
			health{check: func(context.Context) error { calls.Add(1); return nil }}.register)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- g.Serve(l) }()
		return func() {
			t.Helper()
			g.Stop()
			if err := <-done; err != nil {
				t.Errorf("Serve returned %v", err)
			}
		}, calls
	}
	check := func(conn *grpc.ClientConn) {
		t.Helper()
		if _, err := client.New(conn).Health.Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
	}
	dial := func() *grpc.ClientConn {
		t.Helper()
		conn, err := client.DialSocket(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		check(conn)
		return conn
	}
	endFirst, firstCalls := listen()
	old := dial()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check(old)
	endSecond, secondCalls := listen()
	defer endSecond()
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the new socket has mode %v (%v)", info.Mode(), err)
	}
	dial()
	endFirst()
	dial()
	if a, b := firstCalls.Load(), secondCalls.Load(); a != 2 || b != 2 {
		t.Errorf("the first answered %d calls and the second %d, want 2 and 2", a, b)
	}
}

// TestASocketOfSomebodyElse puts the socket of another user there: one whose process has ended
// is replaced by one that is this process's, one that is served is left alone.
// Fault 47 of the reliability promises: a foreign owner.
func TestASocketOfSomebodyElse(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give a socket to another user")
	}
	const other = 12345
	for _, served := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if err := errors.Join(os.Chmod(path, 0o777), os.Chown(path, other, other)); err != nil {
			t.Fatal(err)
		}
		if served {
			defer l.Close()
		} else if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		own, err := ListenLocal(path)
		info, lost := os.Lstat(path)
		if lost != nil {
			t.Fatal(lost)
		}
		owner := info.Sys().(*syscall.Stat_t).Uid
		if served {
			if err == nil || !strings.Contains(err.Error(), "served by another process") || owner != other {
				t.Errorf("the socket that somebody else serves: error %v, and its owner is %d", err, owner)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if owner != 0 || info.Mode() != fs.ModeSocket|0o660 {
			t.Errorf("the socket that took the place of somebody else's is of %d with mode %v", owner, info.Mode())
		}
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAPathThatIsTooLongIsNamed(t *testing.T) {
	t.Parallel()
	_, err := ListenLocal(filepath.Join(t.TempDir(), strings.Repeat("x", 110)))
	if err == nil || !strings.Contains(err.Error(), "choose a shorter one") {
		t.Errorf("error %v", err)
	}
}

func TestAnOccupiedPortIsNamed(t *testing.T) {
	t.Parallel()
	l := loopback(t)
	defer l.Close()
	_, err := ListenRemote(l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "is taken") || !strings.Contains(err.Error(), "--listen-remote-api") {
		t.Errorf("error %v", err)
	}
	if _, err := ListenRemote("192.0.2.1:0"); err == nil || !strings.Contains(err.Error(), "none of this machine's") {
		t.Errorf("error %v", err)
	}
}

// skipping is TLS as the reference's CLI speaks it over the socket: nothing is
// verified, no certificate shown.
func skipping() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
}

func TestTheSocketServesPlainAndTLS(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	self := s.identity(t, "manager", org, api.NodeRole_MANAGER)
	path := filepath.Join(t.TempDir(), "s")
	l, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	callers := make(chan Identity, 4)
	serve(t, l, Config{
		Credentials: LocalCredentials(self.ServerCredentials()), Local: Self(self, "10.0.0.1:4242"),
	}, health{check: func(ctx context.Context) error { callers <- Caller(ctx); return nil }}.register)
	for name, options := range map[string][]grpc.DialOption{
		"plain":                        nil,
		"TLS without a certificate":    {grpc.WithTransportCredentials(skipping())},
		"TLS with a worker's identity": {grpc.WithTransportCredentials(s.identity(t, "w", org, api.NodeRole_WORKER).ClientCredentials(ca.ManagerOU))},
	} {
		conn, err := client.DialSocket(path, options...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.New(conn).Health.Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if id := <-callers; !id.Local || id.NodeID != "manager" || id.Org != org || !id.Is(ca.ManagerOU) {
			t.Errorf("%s: the caller is %+v", name, id)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestASocketWithoutACertificateServesPlainOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, Config{Credentials: LocalCredentials(nil), Local: func() Identity { return Identity{} }},
		health{check: func(context.Context) error { return nil }}.register)
	plain, err := client.DialSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := client.New(plain).Health.Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	secure, err := client.DialSocket(path, grpc.WithTransportCredentials(skipping()))
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	if _, err := client.New(secure).Health.Check(t.Context(), &api.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("TLS: %v", err)
	}
}
