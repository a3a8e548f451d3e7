package rpc

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"skep/api"
	"skep/client"
)

func TestALentSocketServesAnotherAfterItsReturn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	socket, err := ListenLocal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	answered := func(l net.Listener) (stop func()) {
		t.Helper()
		server, err := NewServer(Config{Credentials: LocalCredentials(nil), Local: func() Identity { return Identity{} }}, health{check: func(context.Context) error { return nil }}.register)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		conn, err := client.DialSocket(path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := api.NewHealthClient(conn).Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
			t.Errorf("a request: %v", err)
		}
		return func() {
			server.Stop()
			if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("the server ended with %v", err)
			}
		}
	}
	for range 3 {
		loan, err := Lend(socket)
		if err != nil {
			t.Fatal(err)
		}
		stop := answered(loan)
		silent, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > connectTimeout/2 {
			t.Errorf("a client that says nothing held up the end for %s", took)
		}
		_ = silent.Close() // the server has closed it
		if err := loan.Return(); err != nil {
			t.Fatal(err)
		}
	}
	answered(socket)()
}
