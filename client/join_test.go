package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"skep/api"
	"skep/ca"
	"skep/model"
)

// scripted is a manager that answers as a test says, over memory.
type scripted struct {
	api.UnimplementedCAServer
	api.UnimplementedNodeCAServer
	root    *ca.Root
	signer  *ca.Signer
	mu      sync.Mutex
	calls   []string
	csr     []byte
	version []string
	extra   int // bytes after the root
	// Each answers one call of the method, the last goes on answering.
	issue  []func() error
	status []func(*api.NodeCertificateStatusResponse) error
}

func (s *scripted) GetRootCACertificate(context.Context, *api.GetRootCACertificateRequest) (*api.GetRootCACertificateResponse, error) {
	return &api.GetRootCACertificateResponse{Certificate: append(bytes.Clone(s.root.PEM()), make([]byte, s.extra)...)}, nil
}

func (s *scripted) IssueNodeCertificate(ctx context.Context, r *api.IssueNodeCertificateRequest) (*api.IssueNodeCertificateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.csr = append(s.calls, "issue"), r.GetCsr()
	md, _ := metadata.FromIncomingContext(ctx)
	s.version = md.Get(ca.VersionMetadata)
	f := s.issue[0]
	s.issue = s.issue[min(1, len(s.issue)-1):]
	return &api.IssueNodeCertificateResponse{NodeId: "n"}, f()
}

func (s *scripted) NodeCertificateStatus(ctx context.Context, _ *api.NodeCertificateStatusRequest) (*api.NodeCertificateStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, "status")
	f := s.status[0]
	s.status = s.status[min(1, len(s.status)-1):]
	chain, err := s.signer.Sign(s.csr, ca.Subject{NodeID: "n", Org: "cluster"}, time.Now(), 0)
	if err != nil {
		return nil, err
	}
	resp := &api.NodeCertificateStatusResponse{
		Status:      &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED},
		Certificate: &api.Certificate{Csr: s.csr, Certificate: chain},
	}
	if err := f(resp); err != nil {
		return nil, err
	}
	return resp, ctx.Err()
}

// join runs the joining of a node to a scripted manager in a bubble.
func join(t *testing.T, s *scripted) (*ca.Certificate, time.Duration, error) {
	t.Helper()
	root, keyPEM, cert, err := ca.Bootstrap("cluster", "m", time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.signer, err = ca.NewSigner(root, keyPEM); err != nil {
		t.Fatal(err)
	}
	s.root = root
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer(grpc.Creds(ca.NewIdentity(root, cert, nil).ServerCredentials()))
	api.RegisterCAServer(g, s)
	api.RegisterNodeCAServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	defer func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	token, err := ca.NewToken(root)
	if err != nil {
		t.Fatal(err)
	}
	j := &Joiner{Managers: NewManagers("m:1"), Version: "v1", Dial: func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }}
	began := time.Now()
	_, issued, err := j.Join(t.Context(), token, api.NodeSpec_ACTIVE)
	return issued, time.Since(began), err
}

func fine() error                                     { return nil }
func issued(*api.NodeCertificateStatusResponse) error { return nil }
func away() error                                     { return status.Error(codes.Unavailable, "no leader") }
func slow(*api.NodeCertificateStatusResponse) error {
	return status.Error(codes.DeadlineExceeded, "later")
}
func leaving(*api.NodeCertificateStatusResponse) error {
	return status.Error(codes.Unavailable, "stopping")
}
func rotating(r *api.NodeCertificateStatusResponse) error {
	r.Status.State = api.IssuanceStatus_ROTATE
	return nil
}
func anothers(r *api.NodeCertificateStatusResponse) error {
	r.Certificate.Csr = []byte("of an older request")
	return nil
}
func refused(r *api.NodeCertificateStatusResponse) error {
	r.Status = &api.IssuanceStatus{State: api.IssuanceStatus_FAILED, Err: "bad request"}
	return nil
}
func garbage(r *api.NodeCertificateStatusResponse) error {
	r.Certificate.Certificate = []byte("garbage")
	return nil
}

func TestJoiningIsPatientWhereItHelps(t *testing.T) {
	t.Parallel()
	type answer = func(*api.NodeCertificateStatusResponse) error
	tests := []struct {
		name   string
		issue  []func() error
		status []answer
		calls  int
		took   time.Duration
		want   model.Kind // Internal: it joins
	}{
		{"at once", []func() error{fine}, []answer{issued}, 2, 0, model.Internal},
		{"rotating already", []func() error{fine}, []answer{rotating}, 2, 0, model.Internal},
		{"signed later", []func() error{fine}, []answer{slow, slow, issued}, 4, 0, model.Internal},
		{"an older answer first", []func() error{fine}, []answer{anothers, issued}, 3, 100 * time.Millisecond, model.Internal},
		{"no leader at first", []func() error{away, away, fine}, []answer{issued}, 4, 2 * attemptPause, model.Internal},
		{"the manager leaves meanwhile: the request is not made twice", []func() error{fine}, []answer{leaving, issued}, 3, attemptPause, model.Internal},
		{"never a leader", []func() error{away}, []answer{issued}, attempts, (attempts - 1) * attemptPause, model.Unavailable},
		{"refused", []func() error{fine}, []answer{refused}, 2, 0, model.Invalid},
		{"garbage", []func() error{fine}, []answer{garbage}, 2, 0, model.Invalid},
		{"wrong token", []func() error{func() error {
			return status.Error(codes.InvalidArgument, "A valid join token is necessary to join this cluster")
		}}, nil, 1, 0, model.Invalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{issue: test.issue, status: test.status}
				cert, took, err := join(t, s)
				if (err == nil) != (test.want == model.Internal) || err != nil && model.KindOf(err) != test.want {
					t.Errorf("error %v, want kind %d", err, test.want)
				}
				if err == nil && (cert.NodeID != "n" || cert.ClusterID != "cluster") {
					t.Errorf("joined as %s of %s", cert.NodeID, cert.ClusterID)
				}
				if len(s.calls) != test.calls || took != test.took {
					t.Errorf("%v in %s, want %d calls in %s", s.calls, took, test.calls, test.took)
				}
				if len(s.version) != 1 || s.version[0] != "v1" {
					t.Errorf("version %q was sent", s.version)
				}
			})
		})
	}
}

func TestWhatIsNotTrustedYetCannotSendMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for extra, want := range map[int]string{maxAnswer / 2: "does not match fingerprint", maxAnswer: "larger than max"} {
			_, _, err := join(t, &scripted{extra: extra, issue: []func() error{fine}})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%d bytes after the root: got %v, want an error with %q", extra, err, want)
			}
		}
	})
}

func TestAPeerThatIsNoManagerIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = (&Joiner{Managers: NewManagers(l.Addr().String())}).DownloadRoot(ctx, "x")
	if err == nil || model.KindOf(err) == model.Invalid {
		t.Errorf("error %v", err)
	}
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	<-done
}

func TestWithoutAManagerItSaysHowToNameOne(t *testing.T) {
	t.Parallel()
	_, err := (&Joiner{Managers: new(Managers)}).DownloadRoot(t.Context(), "x")
	if model.KindOf(err) != model.Invalid {
		t.Errorf("error %v", err)
	}
}
