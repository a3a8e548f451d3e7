package manager

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/swarmkit/v2/agent"
	"github.com/moby/swarmkit/v2/api"
	"github.com/moby/swarmkit/v2/ca"
	"github.com/moby/swarmkit/v2/connectionbroker"
	"github.com/moby/swarmkit/v2/log"
	"github.com/moby/swarmkit/v2/remotes"
	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"
)

// member is a node that has a certificate of the swarm, with what the library
// keeps of it.
type member struct {
	id       string
	security *ca.SecurityConfig
	broker   *connectionbroker.Broker
	paths    *ca.SecurityConfigPaths
}

// worker is a member whose agent, the library's, serves the manager.
type worker struct {
	member
	ctx      context.Context
	executor *executor
	// sessions counts those that were established, and failures has why they
	// ended; both change under the executor's lock and tell its waiters.
	sessions int
	failures []error
}

// library is a context in which the library logs for the report of this test.
func library(t *testing.T, m *swarmd, who string) context.Context {
	logger := logrus.New()
	logger.SetOutput(keepLog(t, who))
	return log.WithLogger(m.ctx, logrus.NewEntry(logger))
}

// brokerTo knows one manager.
func brokerTo(addr string) *connectionbroker.Broker {
	return connectionbroker.New(remotes.NewRemotes(api.Peer{Addr: addr}))
}

// member joins with a token as a stock node does: it gets the root, holds it
// against the token, asks for a certificate and waits for it.
func (m *swarmd) member(t *testing.T, token string) member {
	t.Helper()
	ctx, broker := library(t, m, "library"), brokerTo(m.addr)
	paths := ca.NewConfigPaths(filepath.Join(t.TempDir(), "certificates"))
	root := must(ca.DownloadRootCA(ctx, paths.RootCA, token, broker))(t)
	krw := ca.NewKeyReadWriter(paths.Node, nil, nil)
	security, closeSecurity, err := root.CreateSecurityConfig(ctx, krw, ca.CertificateRequestConfig{Token: token, ConnBroker: broker})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = closeSecurity() })
	return member{id: security.ClientTLSCreds.NodeID(), security: security, broker: broker, paths: paths}
}

// worker joins with the worker token, starts the agent and waits until it has its
// first session.
func (m *swarmd) worker(t *testing.T, hostname string) *worker {
	t.Helper()
	w := &worker{
		member: m.member(t, m.cluster(t).RootCA.JoinTokens.Worker),
		ctx:    library(t, m, hostname), executor: newExecutor(hostname),
	}
	db := must(bbolt.Open(filepath.Join(t.TempDir(), "tasks.db"), 0o600, nil))(t)
	t.Cleanup(func() { db.Close() })
	issuer, changes := w.security.IssuerInfo(), make(chan *agent.NodeChanges)
	tlsChanges, stopTLS := w.security.Watch()
	t.Cleanup(stopTLS)
	a := must(agent.New(&agent.Config{
		Hostname: hostname, ConnBroker: w.broker, Executor: w.executor, DB: db,
		NotifyNodeChange: changes, NotifyTLSChange: tlsChanges, Credentials: w.security.ClientTLSCreds,
		NodeTLSInfo: &api.NodeTLSInfo{
			TrustRoot: w.security.RootCA().Certs, CertIssuerPublicKey: issuer.PublicKey, CertIssuerSubject: issuer.Subject,
		},
		SessionTracker: w,
	}))(t)
	if err := a.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	var listens sync.WaitGroup
	stopped := make(chan struct{})
	listens.Go(func() {
		for {
			select {
			case c := <-changes:
				// A root that is not the one it has would be a rotation.
				if c.RootCert != nil {
					t.Errorf("the manager sent %s the root %q", hostname, c.RootCert)
				}
			case <-stopped:
				return
			}
		}
	})
	t.Cleanup(func() {
		if err := a.Stop(context.WithoutCancel(w.ctx)); err != nil {
			t.Errorf("stop the agent of %s: %v", hostname, err)
		}
		close(stopped)
		listens.Wait()
	})
	select {
	case <-a.Ready():
	case <-w.ctx.Done():
		t.Fatalf("the agent of %s has no session: %v", hostname, w.failures)
	}
	return w
}

// SessionEstablished implements agent.SessionTracker.
func (w *worker) SessionEstablished() { w.executor.change(func() { w.sessions++ }) }

// SessionError implements agent.SessionTracker.
func (w *worker) SessionError(err error) {
	w.executor.change(func() { w.failures = append(w.failures, err) })
}

// SessionClosed implements agent.SessionTracker.
func (*worker) SessionClosed() error { return nil }

// undisturbed checks that no session has failed.
func (w *worker) undisturbed(t *testing.T) {
	t.Helper()
	w.executor.mu.Lock()
	defer w.executor.mu.Unlock()
	if w.sessions != 1 || len(w.failures) > 0 {
		t.Errorf("%d sessions, failed with: %v; want one that lasts", w.sessions, errors.Join(w.failures...))
	}
}

// running returns the tasks of a service that are observed and wanted running.
func (m *swarmd) running(t *testing.T, service string) (out []*api.Task) {
	t.Helper()
	for _, task := range m.tasks(t, service) {
		if task.Status.State == api.TaskStateRunning && task.DesiredState == api.TaskStateRunning {
			out = append(out, task)
		}
	}
	return out
}
