package rpc

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/model"
	"skep/store"
)

func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "manager", api.NodeRole_MANAGER)
	s.node(t, "worker", api.NodeRole_WORKER)
	srv := &server{cfg: Config{Authorizer: NewMembers(s.store, org), Now: time.Now}}
	callers := map[string]Identity{
		"nobody":              {},
		"worker":              {NodeID: "worker", Org: org, Roles: []string{ca.WorkerOU}},
		"manager":             {NodeID: "manager", Org: org, Roles: []string{ca.ManagerOU}},
		"demoted":             {NodeID: "worker", Org: org, Roles: []string{ca.ManagerOU}},
		"promoted":            {NodeID: "manager", Org: org, Roles: []string{ca.WorkerOU}},
		"removed":             {NodeID: "removed", Org: org, Roles: []string{ca.ManagerOU}},
		"unknown":             {NodeID: "ghost", Org: org, Roles: []string{ca.ManagerOU}},
		"of another org":      {NodeID: "manager", Org: "other", Roles: []string{ca.ManagerOU}},
		"without a role":      {NodeID: "manager", Org: org},
		"with another role":   {NodeID: "manager", Org: org, Roles: []string{"admin"}},
		"with an expired one": {NodeID: "manager", Org: org, Roles: []string{ca.ManagerOU}, NotAfter: time.Now().Add(-time.Second)},
		"socket":              {NodeID: "manager", Org: org, Roles: []string{ca.ManagerOU}, Local: true},
	}
	everybody := make([]string, 0, len(callers))
	for name := range callers {
		everybody = append(everybody, name)
	}
	nodes, managers := []string{"worker", "manager", "demoted", "promoted", "socket"}, []string{"manager", "socket"}
	tests := []struct {
		service string
		may     []string
	}{
		{"docker.swarmkit.v1.NodeCA", everybody},
		{"docker.swarmkit.v1.Dispatcher", nodes},
		{"docker.swarmkit.v1.ResourceAllocator", nodes},
		{"docker.swarmkit.v1.LogBroker", nodes},
		{"docker.swarmkit.v1.Control", managers},
		{"docker.swarmkit.v1.Watch", managers},
		{"docker.swarmkit.v1.Logs", managers},
		{"docker.swarmkit.v1.Health", managers},
		{"docker.swarmkit.v1.Raft", managers},
		{"docker.swarmkit.v1.RaftMembership", managers},
		{"CA/GetRootCACertificate", everybody},
		{"CA/GetUnlockKey", managers},
	}
	for _, test := range tests {
		service, only := test.service, ""
		if head, name, ok := strings.Cut(test.service, "/"); ok {
			service, only = "docker.swarmkit.v1."+head, name
		}
		methods, err := methodsOf(service)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range methods {
			if only != "" && m.name != only {
				continue
			}
			for name, id := range callers {
				may := false
				for _, one := range test.may {
					may = may || one == name
				}
				_, err := srv.authorize(id, m)
				if may != (err == nil) {
					t.Errorf("%s, %s: may call is %v, want %v (%v)", m.full, name, err == nil, may, err)
				}
				if err != nil && model.KindOf(err) != model.Denied {
					t.Errorf("%s, %s: kind %d", m.full, name, model.KindOf(err))
				}
			}
		}
	}
}

func TestADemotedManagerActsAsAWorker(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "n", api.NodeRole_WORKER)
	srv := &server{cfg: Config{Authorizer: NewMembers(s.store, org), Now: time.Now}}
	id, err := srv.authorize(Identity{NodeID: "n", Org: org, Roles: []string{ca.ManagerOU}}, &method{roles: []string{ca.WorkerOU, ca.ManagerOU}})
	if err != nil || id.Is(ca.ManagerOU) || !id.Is(ca.WorkerOU) {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestRightsEndAtOnceOnALiveConnection(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "m2", api.NodeRole_MANAGER)
	addr := s.remote(t, Config{}, health{check: func(context.Context) error { return nil }}.register)
	c := dial(t, addr, s.identity(t, "m2", org, api.NodeRole_MANAGER))
	if _, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	s.write(t, func(tx *store.Tx) error {
		node, _ := tx.Nodes.Get("m2")
		node = model.Shallow(node)
		node.Role = api.NodeRole_WORKER
		return tx.Update(node)
	})
	if _, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("demoted: %v", err)
	}
	s.write(t, func(tx *store.Tx) error { return tx.Remove(store.KindNode, "m2") })
	if _, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "removed from the swarm") {
		t.Errorf("removed: %v", err)
	}
}

func TestAStreamTellsNothingMoreToWhoLostItsRights(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "m2", api.NodeRole_MANAGER)
	next := make(chan struct{})
	addr := s.remote(t, Config{}, watch{watch: func(stream grpc.ServerStreamingServer[api.WatchMessage]) error {
		for range next {
			if err := stream.Send(&api.WatchMessage{}); err != nil {
				return err
			}
		}
		return nil
	}}.register)
	c := dial(t, addr, s.identity(t, "m2", org, api.NodeRole_MANAGER))
	stream, err := c.Watch.Watch(t.Context(), &api.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next <- struct{}{}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	s.write(t, func(tx *store.Tx) error { return tx.Remove(store.KindNode, "m2") })
	next <- struct{}{}
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("removed: got %v, want PermissionDenied", err)
	}
}

func TestTheCallerIsTheOneOfTheCertificate(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	s.node(t, "m2", api.NodeRole_MANAGER)
	var seen Identity
	addr := s.remote(t, Config{}, health{check: func(ctx context.Context) error { seen = Caller(ctx); return nil }}.register)
	c := dial(t, addr, s.identity(t, "m2", org, api.NodeRole_MANAGER))
	if _, err := c.Health.Check(t.Context(), &api.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if seen.NodeID != "m2" || seen.Org != org || !seen.Is(ca.ManagerOU) || seen.Local || !strings.HasPrefix(seen.Addr, "127.0.0.1:") {
		t.Errorf("caller %+v", seen)
	}
}
