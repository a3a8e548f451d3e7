package controlapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
	"skep/store"
)

// A node with more tasks than one transaction may write is removed all the same,
// and each task is given up.
func TestTheTasksOfARemovedNodeAreGivenUpInChunks(t *testing.T) {
	t.Parallel()
	s := newStore(t, `
		cluster id: "c" spec { annotations { name: "default" } }
		node    id: "n" status { state: DOWN }`)
	const tasks = 1000
	runOn(t, s, "n", tasks, 10<<10)
	before := s.Read().Version()
	if _, err := newServer(s).RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: "n"}); err != nil {
		t.Fatal(err)
	}
	if got := countOrphans(s, "n"); got != tasks {
		t.Errorf("%d tasks were given up, want %d", got, tasks)
	}
	if transactions := s.Read().Version() - before; transactions < tasks*10/1024 {
		t.Errorf("%d transactions carried %d tasks of 10 KiB", transactions, tasks)
	}
}

// A removal that was cut short after its first transaction is ended by the same
// request; after that there is nothing left to remove.
func TestARemovalThatWasCutShortCanBeRepeated(t *testing.T) {
	t.Parallel()
	s := newStore(t, `cluster id: "c" spec { annotations { name: "default" } }`)
	runOn(t, s, "n", 200, 0)
	server := newServer(s)
	if _, err := server.RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: "n"}); err != nil {
		t.Fatal(err)
	}
	if got := countOrphans(s, "n"); got != 200 {
		t.Errorf("%d tasks were given up, want 200", got)
	}
	if _, err := server.RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: "n"}); model.KindOf(err) != model.NotFound {
		t.Errorf("a node that is gone: got %v, want NotFound", err)
	}
}

// The cluster remembers the certificate of a removed node until a week after it
// has expired.
func TestTheCertificateOfARemovedNodeIsRefusedUntilItIsWorthNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t, `
		cluster id: "c" spec { annotations { name: "default" } }
		node    id: "n" status { state: DOWN }`)
	day := 24 * time.Hour
	expiry := now().Add(90 * day)
	_, err := store.Edit(t.Context(), s, "n", nil, func(n *api.Node) error {
		n.Certificate = &api.Certificate{Certificate: certificate(t, expiry)}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Edit(t.Context(), s, "c", nil, func(c *api.Cluster) error {
		c.BlacklistedCertificates = map[string]*api.BlacklistedCertificate{
			"valid":   {Expiry: timestamppb.New(now().Add(day))},
			"recent":  {Expiry: timestamppb.New(now().Add(-6 * day))},
			"old":     {Expiry: timestamppb.New(now().Add(-8 * day))},
			"forever": {},
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newServer(s).RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: "n"}); err != nil {
		t.Fatal(err)
	}
	c, _ := s.Read().Clusters.Get("c")
	refused := c.GetBlacklistedCertificates()
	for _, cn := range []string{"valid", "recent", "forever", "n"} {
		if refused[cn] == nil {
			t.Errorf("%s is no longer refused", cn)
		}
	}
	if refused["old"] != nil {
		t.Error("a certificate that expired more than a week ago is still remembered")
	}
	if got := refused["n"].GetExpiry().AsTime(); !got.Equal(expiry) {
		t.Errorf("the node's certificate is refused until %v, want %v", got, expiry)
	}
}

// runOn stores n running tasks of a node, with labels of size bytes each.
func runOn(t *testing.T, s *store.Store, node string, n, size int) {
	t.Helper()
	for i := range n {
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Create(&api.Task{
				Id:          fmt.Sprintf("t%d", i),
				NodeId:      node,
				Annotations: &api.Annotations{Labels: map[string]string{"filler": string(make([]byte, size))}},
				Status:      &api.TaskStatus{State: api.TaskState_RUNNING},
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func countOrphans(s *store.Store, node string) int {
	n := 0
	for t := range s.Read().TasksOn(node) {
		if t.GetStatus().GetState() == api.TaskState_ORPHANED {
			n++
		}
	}
	return n
}

func certificate(t *testing.T, expiry time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: expiry.Add(-time.Hour), NotAfter: expiry}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
