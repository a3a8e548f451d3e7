package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"skep/api"
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

// loadIdentity takes who this node is from its state directory. member is false
// when nothing there says that it ever belonged to a swarm.
func (n *node) loadIdentity(ctx context.Context) (member bool, err error) {
	root, cert, err := n.files.Load(n.cfg.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return false, n.checkNew()
	}
	if err != nil {
		return false, err
	}
	if err := cert.Valid(n.cfg.Now()); err != nil {
		if n.cfg.Now().Before(cert.NotBefore) {
			return false, err
		}
		// That happens to a node that was down for long. It goes on with its tasks and asks
		// for another, see obtain.
		n.cfg.Log.WarnContext(ctx, "this node has to have a new certificate before it can talk to the managers", slog.Any("error", err))
	}
	if n.cfg.JoinToken != "" {
		n.cfg.Log.InfoContext(ctx, "this node is a member already; its join token is ignored", slog.String("node.id", cert.NodeID))
	}
	if n.rootKey, err = n.dir.read(certificatesDir, foundingKey); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read the key of the swarm that is being founded: %w", err)
	}
	n.identity = ca.NewIdentity(root, cert, n.cfg.Now)
	return true, nil
}

// checkNew refuses to make another node out of one that has lost its identity.
func (n *node) checkNew() error {
	for _, dir := range []string{raftDir, workerDir} {
		if found, err := n.dir.has(dir); err == nil && found {
			return fmt.Errorf("%s is missing, but %s holds what a node left: restore the certificates from a backup, or start over with an empty --state-dir",
				n.dir.join(certificatesDir), n.dir.join(dir))
		}
	}
	return nil
}

// obtainIdentity makes this node a member: of the swarm that it is told to join,
// else of one that it founds.
func (n *node) obtainIdentity(ctx context.Context) (err error) {
	var root *ca.Root
	var cert *ca.Certificate
	if n.cfg.JoinAddr != "" {
		root, cert, err = n.join(ctx)
	} else {
		root, cert, n.rootKey, err = n.found()
	}
	if err != nil {
		return err
	}
	n.identity = ca.NewIdentity(root, cert, n.cfg.Now)
	return nil
}

func (n *node) manages() bool { return n.identity.Role() == api.NodeRole_MANAGER }

// found makes the root of a new swarm and this node's own certificate. The root's
// key is on disk before the certificate that says that this node is a member.
func (n *node) found() (*ca.Root, *ca.Certificate, []byte, error) {
	root, rootKey, cert, err := ca.Bootstrap(model.NewID(rand.Reader), model.NewID(rand.Reader), n.cfg.Now(), ca.DefaultLifetime)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := vfs.MakeDir(n.machine.FS, n.dir.join(certificatesDir)); err != nil {
		return nil, nil, nil, fmt.Errorf("make the certificates directory: %w", err)
	}
	if err := n.dir.write(rootKey, certificatesDir, foundingKey); err != nil {
		return nil, nil, nil, fmt.Errorf("keep the root's key until the swarm is founded: %w", err)
	}
	return root, cert, rootKey, n.files.Save(root, cert)
}

// join asks the manager at the join address for an identity.
func (n *node) join(ctx context.Context) (*ca.Root, *ca.Certificate, error) {
	if n.cfg.JoinToken == "" {
		return nil, nil, errors.New("--join-addr without --join-token: this node is no member of a swarm yet; 'swarmctl cluster join-token worker' on a manager prints the token")
	}
	token, err := ca.ParseToken(n.cfg.JoinToken)
	if err != nil {
		return nil, nil, err
	}
	n.managers = client.NewManagers(n.cfg.JoinAddr)
	root, cert, err := n.joiner().Join(ctx, token, n.cfg.Availability)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if model.KindOf(err) == model.Invalid {
		err = fmt.Errorf("%w; 'swarmctl cluster join-token worker', or manager, on a manager prints the one of today", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("join the swarm at %s: %w", n.cfg.JoinAddr, err)
	}
	if err := n.files.Save(root, cert); err != nil {
		return nil, nil, err
	}
	return root, cert, n.dir.save(state{Managers: []string{n.cfg.JoinAddr}})
}

func (n *node) joiner() *client.Joiner {
	return &client.Joiner{Managers: n.managers, Version: n.cfg.Version, Now: n.cfg.Now, Log: n.cfg.Log, Dial: n.dialTCP}
}

// raftKeys returns the keys of the raft log, a new one for a manager that has no log yet.
func (n *node) raftKeys() (ca.RaftKeys, error) {
	keys, err := n.files.RaftKeys()
	if err != nil {
		return keys, err
	}
	had, err := n.dir.load()
	if err != nil {
		return keys, err
	}
	found, err := n.dir.has(raftDir)
	switch {
	case err != nil:
		return keys, fmt.Errorf("look for the log of the swarm: %w", err)
	case !found && had.RaftID != 0 && n.rootKey == nil:
		return keys, fmt.Errorf("the log of the swarm is missing: %s is gone, and this manager is a member of its group (%x) that must not forget what it has voted for: restore it from a backup, or have this node demoted and removed by another manager ('swarmctl node demote' and 'node rm') and join again with an empty --state-dir", n.dir.join(raftDir), had.RaftID)
	case keys.Write() != nil:
		return keys, nil
	case found:
		return keys, fmt.Errorf("the key of the log in %s is missing from the node's key file: restore %s from a backup, or start over with an empty --state-dir", n.dir.join(raftDir), n.dir.join(certificatesDir))
	}
	keys.Current = new([ca.RaftKeySize]byte)
	if _, err := rand.Read(keys.Current[:]); err != nil {
		return keys, err
	}
	return keys, n.files.SetRaftKey(*keys.Current)
}
