package caserver

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/ca"
	"skep/internal/badinput"
	"skep/model"
	"skep/store"
)

func TestNoRequestBreaksTheServer(t *testing.T) {
	t.Parallel()
	root, key, _, err := ca.Bootstrap(clusterID, "manager", time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	rootCA, err := ca.NewRootCA(root, key)
	if err != nil {
		t.Fatal(err)
	}
	fresh := func(t testing.TB) badinput.Server {
		s := store.NewLocal(store.Config{})
		if err := s.Update(t.Context(), func(tx *store.Tx) error {
			return errors.Join(
				tx.Create(&api.Cluster{Id: clusterID, RootCa: proto.CloneOf(rootCA), Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}}}),
				tx.Create(&api.Node{Id: "node", Certificate: &api.Certificate{Status: &api.IssuanceStatus{State: api.IssuanceStatus_ISSUED}}}),
			)
		}); err != nil {
			t.Fatal(err)
		}
		return badinput.Server{
			Impl:  New(Config{Store: s, ClusterID: clusterID}),
			State: func() string { return fmt.Sprint(s.Read().Version()) },
		}
	}
	sensible := func(err error) bool {
		switch model.KindOf(err) {
		case model.Invalid, model.NotFound, model.Precondition, model.Denied:
			return true
		}
		return false
	}
	good := []proto.Message{
		&api.IssueNodeCertificateRequest{Csr: request(t), Token: rootCA.GetJoinTokens().GetWorker()},
		&api.NodeCertificateStatusRequest{NodeId: "node"},
	}
	badinput.Try(t, &api.NodeCA_ServiceDesc, fresh, good, sensible)
	badinput.Try(t, &api.CA_ServiceDesc, fresh, nil, sensible)
}
