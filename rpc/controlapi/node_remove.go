package controlapi

import (
	"context"
	"crypto/x509"
	"encoding/pem"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"skep/api"
	"skep/model"
	"skep/store"
)

const (
	orphanMessage = "Task belonged to a node that has been deleted"
	// One transaction orphans at most this much, so that it stays well below what
	// a log entry may hold and a stock manager takes.
	orphansAtOnce     = 150
	orphanBytesAtOnce = 1 << 20
)

// RemoveNode forgets a node, refuses its certificate from now on and gives its
// tasks up. A node with many tasks takes several transactions, the first of
// which removes it: should a later one fail, the same request ends the work.
func (s *Server) RemoveNode(ctx context.Context, r *api.RemoveNodeRequest) (*api.RemoveNodeResponse, error) {
	members := s.membersByNode()
	more := false
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		n, err := find[*api.Node](tx.Snapshot, r.GetNodeId())
		if err != nil {
			if more = r.GetNodeId() != "" && hasOrphans(tx.Snapshot, r.GetNodeId()); more {
				return nil
			}
			return err
		}
		if err := checkRemoval(n, members, r.GetForce()); err != nil {
			return err
		}
		if err := refuseCertificate(tx, n); err != nil {
			return err
		}
		if err := tx.Delete(n); err != nil {
			return err
		}
		more, err = orphanSome(tx, r.GetNodeId())
		return err
	})
	for err == nil && more {
		err = s.store.Update(ctx, func(tx *store.Tx) (failed error) {
			more, failed = orphanSome(tx, r.GetNodeId())
			return failed
		})
	}
	if err != nil {
		return nil, err
	}
	return &api.RemoveNodeResponse{}, nil
}

func checkRemoval(n *api.Node, members map[string]*api.RaftMember, force bool) error {
	_, member := members[n.GetId()]
	if member {
		if n.GetSpec().GetDesiredRole() == api.NodeRole_WORKER {
			return model.Errorf(model.Precondition, "node %.80q is a manager that is being demoted, and is still a member of raft: remove it when it has left; its status says what it waits for", n.GetId())
		}
		return model.Errorf(model.Precondition, "node %.80q is a manager: it has to be demoted before it can be removed; update its role to worker first", n.GetId())
	}
	if n.GetStatus().GetState() == api.NodeStatus_READY && !force {
		return model.Errorf(model.Precondition, "node %.80q is not down and can't be removed: its agent still works; stop it there, or use force", n.GetId())
	}
	return nil
}

// refuseCertificate remembers that the node was removed, so that its certificate is
// not trusted any more. What is remembered is an object of its own: neither a
// request nor the next removal costs more as removals add up.
func refuseCertificate(tx *store.Tx, n *api.Node) error {
	if _, ok := tx.Extensions.Named(model.RemovedNodeKind); !ok {
		extension := &api.Extension{Id: model.RemovedNodeKind, Annotations: &api.Annotations{Name: model.RemovedNodeKind},
			Description: "Nodes that were removed from the swarm, until their certificates are worth nothing."}
		if err := tx.Create(extension); err != nil {
			return err
		}
	}
	end := timestamppb.New(tx.Now()) // of a node that never got a certificate
	if chain := n.GetCertificate().GetCertificate(); len(chain) > 0 {
		end = expiry(chain)
	}
	removed, err := model.NewRemovedNode(n.GetId(), end)
	if err != nil {
		return err
	}
	if _, taken := tx.Resources.Named(n.GetId()); taken {
		// By a resource of a user, which keeps its name. Removed nodes are found by ID.
		removed.Annotations.Name = model.RemovedNodeKind + "." + n.GetId()
	}
	if _, known := tx.Resources.Get(n.GetId()); known {
		return nil
	}
	return tx.Create(removed)
}

// expiry returns when a certificate (PEM) ends, nil when that cannot be told:
// then it is refused for ever.
func expiry(certificate []byte) *timestamppb.Timestamp {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return timestamppb.New(cert.NotAfter)
}

// orphanSome gives up tasks of a node that is gone, and reports whether there are more.
func orphanSome(tx *store.Tx, nodeID string) (more bool, err error) {
	var orphans []*api.Task
	size := 0
	for t := range tx.TasksOn(nodeID) {
		if !mayBeOrphan(t) {
			continue
		}
		size += proto.Size(t)
		if len(orphans) > 0 && (len(orphans) == orphansAtOnce || size > orphanBytesAtOnce) {
			more = true
			break
		}
		orphans = append(orphans, t)
	}
	for _, t := range orphans {
		status := &api.TaskStatus{}
		if t.GetStatus() != nil {
			status = model.Shallow(t.GetStatus())
		}
		status.State = api.TaskState_ORPHANED
		status.Message = orphanMessage
		status.Timestamp = timestamppb.New(tx.Now())
		t = model.Shallow(t)
		t.Status = status
		if err := tx.Update(t); err != nil {
			return false, err
		}
	}
	return more, nil
}

func hasOrphans(s *store.Snapshot, nodeID string) bool {
	for t := range s.TasksOn(nodeID) {
		if mayBeOrphan(t) {
			return true
		}
	}
	return false
}

func mayBeOrphan(t *api.Task) bool { return t.GetStatus().GetState() < api.TaskState_COMPLETE }
