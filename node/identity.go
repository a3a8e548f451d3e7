package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"skep/ca"
	"skep/client"
	"skep/model"
	"skep/vfs"
)

const (
	certificatesDir = "certificates"
	// foundingKey is the root's private key, kept from the founding of a swarm until
	// the cluster object that holds it is durable.
	foundingKey = "swarm-root-ca.key"
)

// identify returns who this node is: as it was at the last start, as a manager
// gives it for the join token, or as the founder of a new swarm. rootKey is set
// while a swarm that this node founds has no cluster object yet.
func (n *node) identify(ctx context.Context) (rootKey []byte, err error) {
	n.files = ca.NewFiles(vfs.OS(), n.dir.join(certificatesDir))
	root, cert, err := n.files.Load(n.cfg.Now())
	switch {
	case err == nil:
		if err := cert.Valid(n.cfg.Now()); err != nil {
			return nil, err
		}
		if n.cfg.JoinAddr != "" {
			n.cfg.Log.InfoContext(ctx, "this node is a member already; the join flags are ignored", slog.String("node.id", cert.NodeID))
		}
		if rootKey, err = os.ReadFile(n.foundingKey()); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case n.cfg.JoinAddr != "":
		root, cert, err = n.join(ctx)
	default:
		root, cert, rootKey, err = n.found()
	}
	if err != nil {
		return nil, err
	}
	n.identity = ca.NewIdentity(root, cert, n.cfg.Now)
	return rootKey, nil
}

func (n *node) foundingKey() string { return n.dir.join(certificatesDir, foundingKey) }

// found makes the root of a new swarm and this node's own certificate. The root's
// key is on disk before the certificate that says that this node is a member.
func (n *node) found() (*ca.Root, *ca.Certificate, []byte, error) {
	root, rootKey, cert, err := ca.Bootstrap(model.NewID(rand.Reader), model.NewID(rand.Reader), n.cfg.Now(), ca.DefaultLifetime)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := os.MkdirAll(filepath.Dir(n.foundingKey()), 0o700); err != nil {
		return nil, nil, nil, fmt.Errorf("make the certificates directory: %w", err)
	}
	if err := writeFile(n.foundingKey(), rootKey); err != nil {
		return nil, nil, nil, fmt.Errorf("keep the root's key until the swarm is founded: %w", err)
	}
	return root, cert, rootKey, n.files.Save(root, cert)
}

// join asks the manager at the join address for an identity.
func (n *node) join(ctx context.Context) (*ca.Root, *ca.Certificate, error) {
	token, err := ca.ParseToken(n.cfg.JoinToken)
	if err != nil {
		return nil, nil, err
	}
	n.managers = client.NewManagers(n.cfg.JoinAddr)
	root, cert, err := n.joiner().Join(ctx, token, n.cfg.Availability)
	if err != nil {
		return nil, nil, fmt.Errorf("join the swarm at %s: %w", n.cfg.JoinAddr, err)
	}
	if err := n.files.Save(root, cert); err != nil {
		return nil, nil, err
	}
	return root, cert, n.dir.save(state{Managers: []string{n.cfg.JoinAddr}})
}

func (n *node) joiner() *client.Joiner {
	return &client.Joiner{Managers: n.managers, Version: n.cfg.Version, Now: n.cfg.Now, Log: n.cfg.Log}
}

// raftKey returns the key of the raft log, a new one for a manager that has no log yet.
func (n *node) raftKey() ([ca.RaftKeySize]byte, error) {
	key, ok, err := n.files.RaftKey()
	if err != nil || ok {
		return key, err
	}
	if _, err := os.Stat(n.dir.join(raftDir)); !errors.Is(err, fs.ErrNotExist) {
		return key, fmt.Errorf("the key of the log in %s is missing from the node's key file: restore %s from a backup, or start over with an empty --state-dir", n.dir.join(raftDir), n.dir.join(certificatesDir))
	}
	if _, err := rand.Read(key[:]); err != nil {
		return key, err
	}
	return key, n.files.SetRaftKey(key)
}
