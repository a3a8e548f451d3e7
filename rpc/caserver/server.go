package caserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"skep/api"
	"skep/ca"
	"skep/control/issuer"
	"skep/model"
	"skep/rpc"
	"skep/store"
)

const (
	// idAttempts is how often a new node gets another ID because one is taken.
	idAttempts = 3
	// backlog is how many changes of one node may wait for a status request.
	backlog = 16
	// maxToken is longer than any join token.
	maxToken = 256
)

// Config is what a Server is made of. Store and ClusterID are required.
type Config struct {
	Store *store.Store
	// ClusterID is the ID of the cluster object, and the organization of its
	// certificates.
	ClusterID string
	// NewID makes the ID of a node when the one that follows from its request is
	// taken; nil is model.NewID of crypto/rand.
	NewID func() string
	// Waiting is how many status requests of callers without a certificate may wait
	// at once for each address that they come from; 1024 if zero.
	Waiting int
}

// Server implements api.CAServer and api.NodeCAServer.
type Server struct {
	api.UnimplementedCAServer
	api.UnimplementedNodeCAServer
	cfg     Config
	members *rpc.Members
	waiting waiting
}

// New returns a server.
func New(cfg Config) *Server {
	if cfg.NewID == nil {
		cfg.NewID = func() string { return model.NewID(rand.Reader) }
	}
	if cfg.Waiting <= 0 {
		cfg.Waiting = waitingEach
	}
	return &Server{cfg: cfg, members: rpc.NewMembers(cfg.Store, cfg.ClusterID), waiting: waiting{most: cfg.Waiting, of: make(map[string]int)}}
}

// Register adds both services.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	api.RegisterCAServer(r, s)
	api.RegisterNodeCAServer(r, s)
}

// GetRootCACertificate returns the bundle that join tokens carry the digest of.
func (s *Server) GetRootCACertificate(context.Context, *api.GetRootCACertificateRequest) (*api.GetRootCACertificateResponse, error) {
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	return &api.GetRootCACertificateResponse{Certificate: cluster.GetRootCa().GetCaCert()}, nil
}

// GetUnlockKey returns the key that managers are locked with, none when they are
// not, and the version of the cluster object that says so. Only a manager gets
// here.
func (s *Server) GetUnlockKey(context.Context, *api.GetUnlockKeyRequest) (*api.GetUnlockKeyResponse, error) {
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	key, err := ca.UnlockKeyIn(cluster)
	if err != nil {
		return nil, err
	}
	return &api.GetUnlockKeyResponse{UnlockKey: key.Bytes(), Version: cluster.GetMeta().GetVersion()}, nil
}

// IssueNodeCertificate takes a certificate request: as a renewal from a caller
// that has a certificate of this swarm, as a join from one that has a token.
func (s *Server) IssueNodeCertificate(ctx context.Context, r *api.IssueNodeCertificateRequest) (*api.IssueNodeCertificateResponse, error) {
	if len(r.GetCsr()) == 0 {
		return nil, model.Errorf(model.Invalid, "issue a node certificate: the request has no CSR")
	}
	if err := ca.CheckRequest(r.GetCsr()); err != nil {
		return nil, err
	}
	caller := rpc.Caller(ctx)
	if caller.NodeID != "" && caller.Org == s.cfg.ClusterID && (caller.Is(ca.WorkerOU) || caller.Is(ca.ManagerOU)) {
		return s.renew(ctx, caller.NodeID, r.GetCsr())
	}
	return s.join(ctx, r)
}

// renew asks for a new certificate for an existing node. A request that was
// made before and is under way or answered is the same request.
func (s *Server) renew(ctx context.Context, nodeID string, csr []byte) (*api.IssueNodeCertificateResponse, error) {
	if _, _, removed := s.members.Node(nodeID); removed {
		return nil, model.Errorf(model.Denied, "renew a certificate: node %s was removed from the swarm: let it leave and join again", nodeID)
	}
	node, err := issuer.Renew(ctx, s.cfg.Store, nodeID, csr)
	if err != nil {
		return nil, err
	}
	return &api.IssueNodeCertificateResponse{NodeId: node.GetId(), NodeMembership: node.GetSpec().GetMembership()}, nil
}

// join makes a node for a request with a join token.
func (s *Server) join(ctx context.Context, r *api.IssueNodeCertificateRequest) (*api.IssueNodeCertificateResponse, error) {
	role, err := s.admit(ctx, r.GetToken())
	if err != nil {
		return nil, err
	}
	if _, known := api.NodeSpec_Availability_name[int32(r.GetAvailability())]; !known {
		return nil, model.Errorf(model.Invalid, "join: availability %d is not known: it is active, pause or drain", r.GetAvailability())
	}
	// A node that did not see our answer asks again with the same request. Its ID
	// follows from the request, so that it finds the node that it became.
	id := idOf(r.GetCsr(), role)
	for attempt := 1; ; attempt++ {
		err := s.create(ctx, id, role, r)
		if model.KindOf(err) == model.Exists && attempt < idAttempts {
			id = s.cfg.NewID()
			continue
		}
		if err != nil {
			return nil, err
		}
		return &api.IssueNodeCertificateResponse{NodeId: id, NodeMembership: api.NodeSpec_ACCEPTED}, nil
	}
}

// create makes the node id for a request, if a repetition of the same request
// has not. The error is of kind Exists when id is, or was, another node's.
func (s *Server) create(ctx context.Context, id string, role api.NodeRole, r *api.IssueNodeCertificateRequest) error {
	if _, _, removed := s.members.Node(id); removed {
		return model.Errorf(model.Exists, "join: node %s was removed", id)
	}
	return s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if n, ok := tx.Nodes.Get(id); ok && n.GetRole() == role && issuer.Asked(n, r.GetCsr()) {
			return nil
		}
		return tx.Create(&api.Node{
			Id:   id,
			Role: role,
			Spec: &api.NodeSpec{DesiredRole: role, Membership: api.NodeSpec_ACCEPTED, Availability: r.GetAvailability()},
			Certificate: &api.Certificate{
				Csr: r.GetCsr(), Cn: id, Role: role,
				Status: &api.IssuanceStatus{State: api.IssuanceStatus_PENDING},
			},
		})
	})
}

// idOf returns the ID of the node that joins with a request in a role. It is as
// random as the key in the request.
func idOf(csr []byte, role api.NodeRole) string {
	sum := sha256.Sum256(append([]byte(ca.OU(role)), csr...))
	return model.NewID(bytes.NewReader(sum[:]))
}

// admit returns the role of whoever joins with a token: that of the token which
// it equals.
func (s *Server) admit(ctx context.Context, token string) (api.NodeRole, error) {
	cluster, err := s.cluster()
	if err != nil {
		return 0, err
	}
	tokens := cluster.GetRootCa().GetJoinTokens()
	if len(token) > maxToken {
		token = ""
	}
	// Both are compared, so that time does not tell which was near.
	manager, worker := ca.SameToken(token, tokens.GetManager()), ca.SameToken(token, tokens.GetWorker())
	switch {
	case manager && !ours(ctx):
		return 0, model.Errorf(model.Precondition,
			"join: this swarm does not take stock engines as managers: join this engine with the worker token, \"swarmctl cluster join-token worker\" prints it")
	case manager:
		return api.NodeRole_MANAGER, nil
	case worker:
		return api.NodeRole_WORKER, nil
	}
	// Engines show these words to their users.
	return 0, model.Errorf(model.Invalid, "A valid join token is necessary to join this cluster")
}

// ours reports whether the caller says that it is one of our nodes.
func ours(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	version := md.Get(ca.VersionMetadata)
	return len(version) > 0 && version[0] != ""
}

// NodeCertificateStatus returns when the certificate of a node is signed, or
// refused, with what is public of it. Callers without a certificate of this swarm
// wait in bounded number for each address.
func (s *Server) NodeCertificateStatus(ctx context.Context, r *api.NodeCertificateStatusRequest) (*api.NodeCertificateStatusResponse, error) {
	id := r.GetNodeId()
	if id == "" {
		return nil, model.Errorf(model.Invalid, "certificate status: the request names no node")
	}
	caller := rpc.Caller(ctx)
	member := caller.NodeID != "" && caller.Org == s.cfg.ClusterID
	if member {
		if _, _, removed := s.members.Node(caller.NodeID); removed {
			return nil, model.Errorf(model.Denied, "certificate status: node %s was removed from the swarm: let it leave and join again", caller.NodeID)
		}
	}
	if resp, err := answer(s.cfg.Store.Read(), id); resp != nil || err != nil {
		return resp, err
	}
	if !member && !caller.Local {
		done, err := s.waiting.enter(caller.Addr)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	head, sub := s.cfg.Store.Subscribe(backlog, store.ObjectKey(store.KindNode, id))
	defer sub.Close()
	for {
		if resp, err := answer(head, id); resp != nil || err != nil {
			return resp, err
		}
		select {
		case <-sub.Ready():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// What changed is read from the head: only the latest counts.
		if _, resync := sub.Take(); resync {
			head = sub.Resync()
		} else {
			head = s.cfg.Store.Read()
		}
	}
}

// answer returns the answer for a node, nil while there is none yet.
func answer(head *store.Snapshot, id string) (*api.NodeCertificateStatusResponse, error) {
	node, ok := head.Nodes.Get(id)
	if !ok {
		return nil, model.Errorf(model.NotFound, "certificate status: there is no node %.64q", id)
	}
	cert := node.GetCertificate()
	switch cert.GetStatus().GetState() {
	case api.IssuanceStatus_ISSUED, api.IssuanceStatus_FAILED, api.IssuanceStatus_ROTATE:
		return &api.NodeCertificateStatusResponse{Status: cert.GetStatus(), Certificate: cert}, nil
	default:
		return nil, nil
	}
}

func (s *Server) cluster() (*api.Cluster, error) {
	cluster, ok := s.cfg.Store.Read().Clusters.Get(s.cfg.ClusterID)
	if !ok || len(cluster.GetRootCa().GetCaCert()) == 0 {
		return nil, model.Errorf(model.Unavailable, "the certificate authority of this swarm is still starting: try again")
	}
	return cluster, nil
}
