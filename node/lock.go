package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skep/api"
	"skep/ca"
	"skep/manager"
	"skep/store"
)

const (
	// lockRetry is when a step of the lock that failed is tried again.
	lockRetry = 5 * time.Second
	// askLimit is how long the others may take to say what they are locked with, askTries
	// how often they are asked.
	askLimit, askTries = time.Second, 5
)

// locker keeps the key file as the swarm wants it: locked with its unlock key or not, and
// without a key that was on disk in the clear before. It acts on what is, so it goes on
// where a crash ended it.
type locker struct {
	files *ca.Files
	// rotate has the log encrypted with key, and returns nil when nothing needs another.
	rotate func(ctx context.Context, key [ca.RaftKeySize]byte) error
	// renew asks for a certificate with a new key; it does not wait for it.
	renew func()
	// renewed returns a channel that is closed when the certificate is another.
	renewed func() <-chan struct{}
	log     *slog.Logger
	// turned has something in it when the lock may have become another.
	turned chan struct{}
}

// follow locks the file with the key that the cluster object holds, whenever it is
// another, until ctx ends.
func (l *locker) follow(ctx context.Context, s *store.Store, clusterID string) {
	const waiting = 1 // the present object is enough
	head, sub := s.Subscribe(waiting, store.ObjectKey(store.KindCluster, clusterID))
	defer sub.Close()
	for {
		wait := time.Duration(0)
		if cluster, ok := head.Clusters.Get(clusterID); ok {
			if err := l.lock(cluster); err != nil {
				l.log.ErrorContext(ctx, "this manager's key file was not locked as the swarm wants it; it is tried again", slog.Any("error", err))
				wait = lockRetry
			}
		}
		if !await(ctx, wait, sub.Ready(), nil) {
			return
		}
		if _, resync := sub.Take(); resync {
			sub.Resync()
		}
		head = s.Read()
	}
}

// lock makes the lock that of the cluster object.
func (l *locker) lock(cluster *api.Cluster) error {
	key, err := ca.UnlockKeyIn(cluster)
	if err != nil {
		return err
	}
	if err := l.files.SetKEK(cluster.GetMeta().GetVersion().GetIndex(), key.Bytes()); err != nil {
		return err
	}
	select {
	case l.turned <- struct{}{}:
	default:
	}
	return nil
}

// mend replaces the keys that were on disk in the clear, until ctx ends. It may take long,
// and the lock changes meanwhile.
func (l *locker) mend(ctx context.Context) {
	for {
		renewed := l.renewed()
		wait := time.Duration(0)
		if err := l.replaceKeys(ctx); err != nil && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "the key of the raft log was not replaced yet; it is tried again", slog.Any("error", err))
			wait = lockRetry
		}
		if !await(ctx, wait, l.turned, renewed) {
			return
		}
	}
}

// replaceKeys replaces each key that the file says has to be.
func (l *locker) replaceKeys(ctx context.Context) error {
	for {
		is, err := l.files.LockState()
		if err != nil {
			return err
		}
		if is.Locked && is.Renew {
			l.renew()
		}
		if !is.Rotate {
			return nil
		}
		keys, err := l.files.BeginRotation()
		if err != nil {
			return err
		}
		if err := l.rotate(ctx, *keys.Pending); err != nil {
			return err
		}
		if err := l.files.FinishRotation(); err != nil {
			return err
		}
		l.log.InfoContext(ctx, "the raft log has a new key")
	}
}

// await waits for one of two channels, and no longer than wait unless that is 0. It returns
// false when ctx ends.
func await(ctx context.Context, wait time.Duration, a, b <-chan struct{}) bool {
	var again <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		again = timer.C
	}
	select {
	case <-a:
	case <-b:
	case <-again:
	case <-ctx.Done():
		return false
	}
	return true
}

// keepLock keeps the key file of a manager as the swarm wants it, until ctx ends.
func (n *node) keepLock(ctx context.Context, m *manager.Manager, run func(func() error)) {
	l := &locker{
		files: n.files, log: n.cfg.Log, turned: make(chan struct{}, 1),
		rotate: m.RotateRaftKey, renewed: n.identity.Changed,
		renew: func() {
			// A change of role brings a new key anyway, and must not be taken back.
			role := n.identity.Role()
			if itself, ok := m.Store().Read().Nodes.Get(n.identity.NodeID()); ok && itself.GetRole() == role {
				n.renewer.Renew(role)
			}
		},
	}
	run(func() error { l.follow(ctx, m.Store(), n.identity.ClusterID()); return nil })
	run(func() error { l.mend(ctx); return nil })
}

// lockAsOthers locks a manager that has no log yet with the key of the others, before a key
// of a log is written. If none of them answers the log itself tells, later.
func (n *node) lockAsOthers(ctx context.Context, own string) error {
	if n.rootKey != nil {
		return nil // nobody else is there
	}
	if found, err := n.dir.has(raftDir); err != nil || found {
		return err
	}
	for range askTries {
		others := n.otherManagers(own)()
		if len(others) == 0 {
			break
		}
		version, key, err := n.askForUnlockKey(ctx, others[rand.IntN(len(others))]) //nolint:gosec // spreads load, guards nothing
		if err == nil {
			return n.files.SetKEK(version, key.Bytes())
		}
		n.cfg.Log.WarnContext(ctx, "another manager did not say what the managers are locked with", slog.Any("error", err))
		if code := status.Code(err); ctx.Err() != nil || code != codes.Unavailable && code != codes.DeadlineExceeded {
			break // another would not say it either
		}
	}
	return nil //nolint:nilerr // it was logged, and the log of the swarm tells later
}

// askForUnlockKey asks the manager at addr what managers are locked with.
func (n *node) askForUnlockKey(ctx context.Context, addr string) (version uint64, key ca.UnlockKey, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	conn, err := n.dialManager(addr)
	if err != nil {
		return 0, key, err
	}
	defer func() { _ = conn.Close() }() // it was for one request
	r, err := api.NewCAClient(conn).GetUnlockKey(ctx, &api.GetUnlockKeyRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return 0, key, nil // it knows of no lock
	case err != nil:
		return 0, key, fmt.Errorf("ask the manager at %s for the unlock key: %w", addr, err)
	}
	key, err = ca.UnlockKeyOf(r.GetUnlockKey())
	return r.GetVersion().GetIndex(), key, err
}
