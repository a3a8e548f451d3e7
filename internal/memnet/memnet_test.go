package memnet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"skep/internal/memnet"
)

func TestAConnectionBehavesAsPackageNetAsks(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]memnet.Link{
		"at once": {}, "slow": {Latency: time.Millisecond, Jitter: time.Millisecond, Loss: 0.001}, "narrow": {Bandwidth: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
				n := memnet.New(1)
				n.SetLinks(link)
				n.SetWindow(64 << 10)
				l, err := n.AddHost("b", "10.0.0.2").Listen("tcp", ":0")
				if err != nil {
					return nil, nil, nil, err
				}
				if a, err = n.AddHost("a", "10.0.0.1").DialContext(t.Context(), "tcp", net.JoinHostPort("b", port(l))); err != nil {
					return nil, nil, nil, err
				}
				if b, err = l.Accept(); err != nil {
					return nil, nil, nil, err
				}
				return a, b, func() { _, _, _ = a.Close(), b.Close(), l.Close() }, nil
			})
		})
	}
}

func port(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// two is a network of hosts a and b, 10 ms from each other, and a connection.
type two struct {
	*memnet.Net
	a, b net.Conn
	l    net.Listener
}

func connect(t *testing.T, seed uint64) *two {
	t.Helper()
	n := memnet.New(seed)
	n.SetLinks(memnet.Link{Latency: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
	n.AddHost("a", "10.0.0.1")
	l, err := n.AddHost("b", "10.0.0.2").Listen("tcp", "0.0.0.0:4242")
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.Host("a").DialContext(t.Context(), "tcp", "10.0.0.2:4242")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return &two{Net: n, a: a, b: b, l: l}
}

func TestAddressesLookReal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		if got := c.b.RemoteAddr().String(); got != "10.0.0.1:49152" {
			t.Errorf("the server sees its client at %s", got)
		}
		if got := c.a.RemoteAddr().String(); got != "10.0.0.2:4242" {
			t.Errorf("the client sees its server at %s", got)
		}
		if _, ok := c.b.RemoteAddr().(*net.TCPAddr); !ok {
			t.Errorf("an address is a %T", c.b.RemoteAddr())
		}
		if _, err := c.Host("b").Listen("tcp", "10.0.0.2:4242"); err != nil {
			t.Errorf("a second address with the same port: %v", err)
		}
		if _, err := c.Host("b").Listen("tcp", ":4242"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("an address that is taken: %v", err)
		}
		if _, err := c.Host("b").Listen("tcp", "10.0.0.1:1"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("another host's address: %v", err)
		}
		if _, err := c.Host("a").DialContext(t.Context(), "tcp", "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port that nobody listens at: %v", err)
		}
	})
}

func TestASocketBelongsToItsHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		l, err := c.Host("b").Listen("unix", "/run/x.sock")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Host("a").DialContext(t.Context(), "unix", "/run/x.sock"); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("the socket of another host: %v", err)
		}
		if _, err := c.Host("b").DialContext(t.Context(), "unix", "/run/x.sock"); err != nil {
			t.Error(err)
		}
		c.Isolate("b")
		if _, err := c.Host("b").DialContext(t.Context(), "unix", "/run/x.sock"); err != nil {
			t.Error("a host that is cut off reaches itself:", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestACutLinkKeepsWhatIsSentAndDeliversItAfterwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		c.Cut("a", "b")
		send(t, c.a, "lost for now")
		send(t, c.b, "the other way")
		if got := receive(t, c.a); got != "the other way" {
			t.Errorf("got %q", got)
		}
		_ = c.b.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := c.b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("something passed a cut link: %v", err)
		}
		_ = c.b.SetReadDeadline(time.Time{})
		c.Mend("a", "b")
		healed := time.Now()
		if got := receive(t, c.b); got != "lost for now" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(healed); took > time.Minute {
			t.Errorf("it took %v to be sent again", took)
		}
	})
}

func TestAWindowIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		c.Cut("b", "a") // acknowledgements do not pass
		drained := make(chan int64)
		go func() { n, _ := io.Copy(io.Discard, c.b); drained <- n }()
		_ = c.a.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.a.Write(make([]byte, 2*memnet.DefaultWindow))
		if n != memnet.DefaultWindow || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d bytes without an acknowledgement: %v", n, err)
		}
		_ = c.a.SetWriteDeadline(time.Time{})
		c.Heal()
		if _, err := c.a.Write(make([]byte, 2*memnet.DefaultWindow)); err != nil {
			t.Error(err)
		}
		_ = c.a.Close()
		if n := <-drained; n != 3*memnet.DefaultWindow {
			t.Errorf("%d bytes arrived", n)
		}
	})
}

func TestAKilledProcessResetsItsConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		send(t, c.b, "last words")
		c.Host("b").Kill()
		if got := receive(t, c.a); got != "last words" {
			t.Errorf("got %q", got)
		}
		if _, err := c.a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reading from a killed process: %v", err)
		}
		if _, err := c.l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("its listener: %v", err)
		}
		if _, err := c.Host("b").Listen("tcp", ":4242"); err != nil {
			t.Errorf("the next process: %v", err)
		}
		if open := c.Open(); open != 0 {
			t.Errorf("%d ends are open", open)
		}
	})
}

func TestAProcessThatWasKilledReachesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		one, two := c.Host("a").Start(), c.Host("a").Start()
		for _, p := range []*memnet.Process{one, two} {
			conn, err := p.DialContext(t.Context(), "tcp", "b:4242")
			if err != nil {
				t.Fatal(err)
			}
			if p == one {
				one.Kill()
			}
			if _, err := conn.Write([]byte("x")); (err == nil) != (p == two) {
				t.Errorf("writing: %v", err)
			}
		}
		if _, err := one.Listen("tcp", ":1"); err == nil {
			t.Error("it listens")
		}
		if _, err := one.DialContext(t.Context(), "tcp", "b:4242"); err == nil {
			t.Error("it connects")
		}
		if _, err := two.Listen("tcp", ":1"); err != nil {
			t.Error(err)
		}
	})
}

func TestAHostWithoutPowerIsSilentUntilItIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		c.Host("b").PowerOff()
		send(t, c.a, "anybody?")
		_ = c.a.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := c.a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a host without power answered: %v", err)
		}
		_ = c.a.SetReadDeadline(time.Time{})
		c.Host("b").PowerOn()
		if _, err := c.a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a host that knows nothing of the connection: %v", err)
		}
	})
}

func TestDialingAcrossACutLinkWaitsAndGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		c.Isolate("b")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var timeout net.Error
		if _, err := c.Host("a").DialContext(ctx, "tcp", "b:4242"); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("dialing with a deadline: %v", err)
		}
		begun := time.Now()
		if _, err := c.Host("a").DialContext(t.Context(), "tcp", "b:4242"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("dialing without a deadline: %v", err)
		}
		if took := time.Since(begun); took != 127*time.Second {
			t.Errorf("it gave up after %v", took)
		}
		time.AfterFunc(10*time.Second, c.Heal)
		begun = time.Now()
		if _, err := c.Host("a").DialContext(t.Context(), "tcp", "b:4242"); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took < 15*time.Second || took > 16*time.Second {
			t.Errorf("the request that got through was sent after %v", took)
		}
	})
}

func TestAnswersCanBeLostAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		c.DropAnswers("a", "b")
		send(t, c.a, "a request")
		if got := receive(t, c.b); got != "a request" {
			t.Errorf("got %q", got)
		}
		send(t, c.b, "an answer")
		_ = c.a.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := c.a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an answer passed: %v", err)
		}
		c.RestoreAnswers("a", "b")
		if _, err := c.a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a connection that lost an answer: %v", err)
		}
	})
}

func TestAHostThatMovesIsNotReachedAtItsOldAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		c.Host("b").SetIP("10.0.0.9")
		if _, err := c.b.Read(make([]byte, 1)); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("the old connection: %v", err)
		}
		if _, err := c.Host("a").DialContext(t.Context(), "tcp", "10.0.0.9:4242"); err != nil {
			t.Errorf("the new address: %v", err)
		}
		if _, err := c.Host("a").DialContext(t.Context(), "tcp", "10.0.0.2:4242"); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("the old address: %v", err)
		}
	})
}

func TestASeedRepeatsItsDelays(t *testing.T) {
	t.Parallel()
	measure := func(seed uint64) (out []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			c := connect(t, seed)
			c.SetLinks(memnet.Link{Latency: time.Millisecond, Jitter: time.Second, Loss: 0.1})
			for range 50 {
				begun := time.Now()
				send(t, c.a, "x")
				receive(t, c.b)
				out = append(out, time.Since(begun))
			}
		})
		return out
	}
	if one, two := measure(7), measure(7); !slices.Equal(one, two) {
		t.Errorf("the same seed gave %v and %v", one, two)
	}
	if one, two := measure(7), measure(8); slices.Equal(one, two) {
		t.Error("another seed gave the same delays")
	}
}

func TestBandwidthIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		c.SetLinks(memnet.Link{Bandwidth: 1 << 20})
		other, err := c.Host("a").DialContext(t.Context(), "tcp", "b:4242")
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		go func() { _, _ = other.Write(make([]byte, 1<<20)) }()
		go func() { _, _ = c.a.Write(make([]byte, 1<<20)) }()
		accepted, err := c.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for _, from := range []io.Reader{accepted, c.b} {
			both.Go(func() {
				if _, err := io.CopyN(io.Discard, from, 1<<20); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if took := time.Since(begun); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("2 MiB over 1 MiB a second took %v", took)
		}
	})
}

func TestAcceptEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, 1)
		l := c.l.(interface{ SetDeadline(time.Time) error })
		time.AfterFunc(time.Second, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
		if _, err := c.l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("accept ended with %v", err)
		}
		_ = l.SetDeadline(time.Time{})
		go func() { _, _ = c.Host("a").DialContext(t.Context(), "tcp", "b:4242") }()
		if _, err := c.l.Accept(); err != nil {
			t.Error(err)
		}
	})
}

func TestGRPCOverTLSRunsInABubble(t *testing.T) {
	t.Parallel()
	cert, pool := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New(1)
		n.SetLinks(memnet.Link{Latency: 10 * time.Millisecond, Jitter: time.Millisecond})
		l, err := n.AddHost("b", "10.0.0.2").Listen("tcp", ":443")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, Time: now})))
		healthpb.RegisterHealthServer(server, health.NewServer())
		go func() { _ = server.Serve(l) }()
		host := n.AddHost("a", "10.0.0.1")
		conn, err := grpc.NewClient("passthrough:///b:443",
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "b", Time: now})),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return host.DialContext(ctx, "tcp", addr) }))
		if err != nil {
			t.Fatal(err)
		}
		check := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
			return err
		}
		if err := check(); err != nil {
			t.Error(err)
		}
		n.Isolate("b")
		if err := check(); err == nil {
			t.Error("a call passed a cut link")
		}
		n.Heal()
		if err := check(); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		server.Stop()
		synctest.Wait()
		if open := n.Open(); open != 0 {
			t.Errorf("%d ends of connections are left", open)
		}
	})
}

func now() time.Time { return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC) }

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"b"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now().Add(-time.Hour), NotAfter: now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Error(err)
	}
}

func receive(t *testing.T, c net.Conn) string {
	t.Helper()
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		t.Error(err)
	}
	return string(b[:n])
}
