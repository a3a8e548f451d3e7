package controlapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
	"skep/rpc"
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

// A removed node is an object of its own, and the cluster shows it together with
// those that it lists itself.
func TestARemovedNodeIsRememberedUntilItsCertificateEnds(t *testing.T) {
	t.Parallel()
	s := newStore(t, `
		cluster id: "c" spec { annotations { name: "default" } } blacklisted_certificates { key: "listed" value { expiry { seconds: 7 } } }
		node    id: "n" status { state: DOWN }
		node    id: "young" status { state: DOWN }
		node    id: "odd" status { state: DOWN } certificate { certificate: "no PEM" }`)
	expiry := now().Add(90 * 24 * time.Hour)
	_, err := store.Edit(t.Context(), s, "n", nil, func(n *api.Node) error {
		n.Certificate = &api.Certificate{Certificate: certificate(t, expiry)}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(s)
	for _, id := range []string{"n", "young", "odd"} {
		if _, err := server.RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: id}); err != nil {
			t.Fatal(err)
		}
	}
	if c, _ := s.Read().Clusters.Get("c"); len(c.GetBlacklistedCertificates()) != 1 || c.GetMeta().GetVersion().GetIndex() != 1 {
		t.Errorf("the cluster object was written: %v", c)
	}
	resp, err := server.GetCluster(t.Context(), &api.GetClusterRequest{ClusterId: "c"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := server.ListClusters(t.Context(), &api.ListClustersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*api.Cluster{resp.GetCluster(), list.GetClusters()[0]} {
		refused := c.GetBlacklistedCertificates()
		if len(refused) != 4 || refused["listed"].GetExpiry().GetSeconds() != 7 {
			t.Errorf("refused are %v", refused)
		}
		if got := refused["n"].GetExpiry().AsTime(); !got.Equal(expiry) {
			t.Errorf("the node's certificate ends %v, want %v", got, expiry)
		}
		if got := refused["young"].GetExpiry().AsTime(); !got.Equal(now()) {
			t.Errorf("a node that had no certificate is remembered by %v", got)
		}
		if refused["odd"] == nil || refused["odd"].GetExpiry() != nil {
			t.Errorf("a certificate that cannot be read: %v, want one that is refused for ever", refused["odd"])
		}
	}
	members := rpc.NewMembers(s, "c")
	for id, want := range map[string]bool{"n": true, "young": true, "odd": true, "listed": true, "other": false} {
		if _, _, removed := members.Node(id); removed != want {
			t.Errorf("node %s: removed %t, want %t", id, removed, want)
		}
	}
}

// Whether the first node is removed or the thousandth, what is written is the same.
func TestARemovalCostsNoMoreAsRemovalsAddUp(t *testing.T) {
	t.Parallel()
	s := newStore(t, `cluster id: "c" spec { annotations { name: "default" } }`)
	server := newServer(s)
	var sizes []int
	for i := range 200 {
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			return tx.Create(&api.Node{Id: fmt.Sprintf("n%03d", i), Status: &api.NodeStatus{State: api.NodeStatus_DOWN}})
		})
		if err != nil {
			t.Fatal(err)
		}
		_, sub := s.Subscribe(100, store.AllKey())
		if _, err := server.RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: fmt.Sprintf("n%03d", i)}); err != nil {
			t.Fatal(err)
		}
		size := 0
		events, _ := sub.Take()
		for _, e := range events {
			for _, c := range e.Changes {
				if c.New != nil {
					size += proto.Size(c.New)
				}
			}
		}
		sub.Close()
		sizes = append(sizes, size)
	}
	if first, last := sizes[1], sizes[len(sizes)-1]; last > first+16 || last == 0 { // numbers grow by a byte
		t.Errorf("the second removal wrote %d bytes, the last one %d", first, last)
	}
}

// A resource that a user gave a node's name neither keeps the node from being
// removed nor passes for the memory of its removal.
func TestAResourceOfTheSameNameIsNoRemovedNode(t *testing.T) {
	t.Parallel()
	s := newStore(t, `
		cluster   id: "c" spec { annotations { name: "default" } }
		extension id: "e" annotations { name: "route" }
		resource  id: "r" annotations { name: "n" } kind: "route"
		node      id: "n" status { state: DOWN }`)
	members := rpc.NewMembers(s, "c")
	if _, known, removed := members.Node("n"); !known || removed {
		t.Errorf("before: known %t, removed %t", known, removed)
	}
	server := newServer(s)
	if _, err := server.RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: "n"}); err != nil {
		t.Fatal(err)
	}
	if _, known, removed := members.Node("n"); known || !removed {
		t.Errorf("after: known %t, removed %t", known, removed)
	}
	if r, ok := s.Read().Resources.Named("n"); !ok || r.GetId() != "r" {
		t.Errorf("the user's resource: %v", r)
	}
}

// What remembers removed nodes is read like any resource, and written by nobody
// else.
func TestUsersCannotWriteTheSwarmsOwnResources(t *testing.T) {
	t.Parallel()
	s := newStore(t, `
		cluster   id: "c" spec { annotations { name: "default" } }
		extension id: "e" annotations { name: "route" }
		resource  id: "r" annotations { name: "r" } kind: "route"
		node      id: "n" status { state: DOWN }`)
	server := newServer(s)
	if _, err := server.RemoveNode(t.Context(), &api.RemoveNodeRequest{NodeId: "n"}); err != nil {
		t.Fatal(err)
	}
	before := stateOf(s)
	extension, _ := s.Read().Extensions.Named(model.RemovedNodeKind)
	for method, request := range map[string]string{
		"CreateResource":  `annotations { name: "x" } kind: "skep.removed-node"`,
		"UpdateResource":  `resource_id: "n" resource_version { index: 2 } annotations { name: "n" }`,
		"RemoveResource":  `resource_id: "n"`,
		"CreateExtension": `annotations { name: "skep.other" }`,
		"RemoveExtension": fmt.Sprintf(`extension_id: %q`, extension.GetId()),
	} {
		if _, err := call(t, server, method, request); model.KindOf(err) != model.Invalid {
			t.Errorf("%s: got %v, want Invalid", method, err)
		}
	}
	if stateOf(s) != before {
		t.Error("what was refused changed something")
	}
	for request, want := range map[string]string{``: "[r]", `filters { kind: "skep.removed-node" }`: "[n]", `filters { kind: "route" }`: "[r]"} {
		if answer, err := call(t, server, "ListResources", request); err != nil || said(answer) != want {
			t.Errorf("ListResources %s: %v, %v, want %s", request, answer, err, want)
		}
	}
	if answer, err := call(t, server, "GetResource", `resource_id: "n"`); err != nil || !strings.Contains(said(answer), "skep.v1.RemovedNode") {
		t.Errorf("GetResource: %v, %v", answer, err)
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
