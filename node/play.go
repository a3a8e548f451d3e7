package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/manager"
	"skep/raft"
	"skep/rpc"
)

const (
	// drainLimit is how long requests in flight may take when a server stops; those of a
	// manager that has ended cannot be answered any more, and only learn of it.
	drainLimit, endedLimit = 2 * time.Second, 200 * time.Millisecond
)

// play is what the node is to the swarm, a worker or a manager, one after the other
// as its certificate says, until ctx ends.
func (n *node) play(ctx context.Context) error {
	for ctx.Err() == nil {
		var err error
		if n.manages() {
			err = n.manage(ctx)
		} else {
			err = n.work(ctx)
		}
		switch {
		case err != nil && full(err) && n.started():
			// It has tasks to look after and is no use to anybody when it ends for that; one that
			// starts tells who started it.
			if err := n.stall(ctx, "the disk of the state directory, "+n.dir.path+", is full, so this node is no manager, and cannot become one or cease to be one, until there is space; free some, it tries again by itself", err, func() error { return nil }); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		if n.awaitDeparture(ctx) {
			<-ctx.Done()
		}
	}
	return nil
}

// while returns a context that ends with ctx, or when the node's role is another
// than role.
func (n *node) while(ctx context.Context, role api.NodeRole) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			changed := n.identity.Changed()
			if n.identity.Role() != role {
				cancel()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// work answers on the socket as a worker does, as long as the node is one.
func (n *node) work(life context.Context) error {
	n.closeRemote()
	n.played = true
	if err := n.retire(life); err != nil {
		return err
	}
	ctx, cancel := n.while(life, api.NodeRole_WORKER)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	stop, err := n.answer(group, n.socketConfig(), func(r grpc.ServiceRegistrar) { n.registerLocal(r) })
	if err != nil {
		return err
	}
	n.fresh = false
	n.playOnce.Do(func() { close(n.playing) })
	<-ctx.Done()
	n.awaitDeparture(life)
	err = stop(drainLimit)
	return errors.Join(ignoreCanceled(group.Wait()), err)
}

// manage runs a manager as long as the node is one.
func (n *node) manage(ctx context.Context) error {
	ctx, cancel := n.while(ctx, api.NodeRole_MANAGER)
	defer cancel()
	remote, err := n.listenRemote(ctx)
	if err != nil {
		return ignoreCanceled(err)
	}
	metrics := &lease{Registerer: n.cfg.Metrics}
	defer metrics.end()
	m, err := n.newManager(ctx, remote.Addr(), metrics)
	if err != nil {
		return errors.Join(err, remote.Close())
	}
	defer n.noManager()
	err = n.runManager(ctx, m, remote)
	switch {
	case n.awaitDeparture(ctx): // what it has is removed when the node ends
		return nil
	case !n.manages():
		return nil // work gives up what only managers have
	case errors.Is(err, raft.ErrRemoved):
		return n.setAside(ctx)
	}
	return err
}

// noManager says that this node runs no manager any more.
func (n *node) noManager() {
	n.manager.Store(nil)
	n.addr.Store(nil)
}

// listenRemote opens the manager's port, unless it is open. For a node that was promoted a port that is
// taken is no reason to end: it works on and tries again, until ctx ends.
func (n *node) listenRemote(ctx context.Context) (net.Listener, error) {
	if l := n.remote; l != nil {
		n.remote = nil
		return l, nil
	}
	l, err := n.machine.ListenRemote(n.cfg.Listen)
	if err == nil {
		return l, nil
	}
	err = n.stall(ctx, "this node was promoted and cannot open the port of a manager; it tries again by itself", err, func() (err error) {
		l, err = n.machine.ListenRemote(n.cfg.Listen)
		return err
	})
	if err == nil && l == nil {
		err = ctx.Err()
	}
	return l, err
}

func (n *node) newManager(ctx context.Context, listening net.Addr, metrics *lease) (*manager.Manager, error) {
	addr, alone, err := advertised(n.cfg.Advertise, listening)
	if err != nil {
		return nil, err
	}
	if alone {
		n.cfg.Log.WarnContext(ctx, "there is no route to other machines, so none can reach this manager; give --advertise-remote-api", slog.String("addr", addr))
	}
	if err := n.lockAsOthers(ctx, addr); err != nil {
		return nil, err
	}
	keys, err := n.raftKeys()
	if err != nil {
		return nil, err
	}
	if err := n.checkOwn(addr); err != nil {
		return nil, err
	}
	n.knowItself(addr)
	force, unforced, err := n.force(ctx)
	if err != nil {
		return nil, err
	}
	cfg := manager.Config{
		Identity: n.identity, FS: n.machine.FS, Dir: n.dir.join(raftDir), RaftKey: *keys.Write(), OldRaftKeys: keys.Read(),
		Addr: addr, Now: n.cfg.Now, Log: n.cfg.Log, Version: n.cfg.Version,
		Dial: n.dialManager, Connect: n.machine.Dial, Managers: n.otherManagers(addr), Opened: n.raftOpened, Refused: n.denied, Settled: !n.fresh,
		ForceNew: force, Forced: n.noteForced, Unforced: unforced,
	}
	if n.cfg.Metrics != nil {
		cfg.Metrics = metrics
	}
	if n.rootKey != nil {
		cfg.Founding = &manager.Founding{RootKey: n.rootKey, Availability: n.cfg.Availability}
		if n.cfg.AutoLock {
			if cfg.Founding.UnlockKey, err = ca.NewUnlockKey(); err != nil {
				return nil, err
			}
		}
	}
	m, err := manager.New(cfg)
	if err != nil {
		return nil, err
	}
	n.played = true
	n.addr.Store(&addr)
	n.manager.Store(m)
	return m, nil
}

// knowItself makes this node's manager the one that it knows, if it knows none. The list stays the same:
// others use it already.
func (n *node) knowItself(addr string) {
	if len(n.managers.Peers()) == 0 {
		n.managers.Set(client.NewManagers(addr).Peers())
	}
}

// checkOwn refuses to be at the address of the only manager that could take this one in.
func (n *node) checkOwn(addr string) error {
	had, err := n.dir.has(raftDir)
	if err != nil || had || n.rootKey != nil || len(n.managers.Peers()) == 0 || len(n.otherManagers(addr)()) > 0 {
		return err
	}
	return fmt.Errorf("this manager is to be at %s, which is where the only other one is that it knows: give --advertise-remote-api an address of this machine, and --listen-remote-api a port of its own", addr)
}

// raftOpened notes that this node has a log: from then on, one that is missing was lost.
func (n *node) raftOpened(id uint64) error {
	n.fresh = false
	return n.dir.edit(func(s *state) bool {
		if s.RaftID == id {
			return false
		}
		s.RaftID = id
		return true
	})
}

// otherManagers returns where others may be that a manager may ask.
func (n *node) otherManagers(own string) func() []string {
	return func() []string {
		var others []string
		for _, p := range n.managers.Peers() {
			if addr := p.GetPeer().GetAddr(); addr != own && p.GetPeer().GetNodeId() != n.identity.NodeID() {
				others = append(others, addr)
			}
		}
		// A manager that was given it at a later start finds there who has moved meanwhile.
		if addr := n.cfg.JoinAddr; addr != "" && addr != own && !slices.Contains(others, addr) {
			others = append(others, addr)
		}
		return others
	}
}

// runManager runs a manager and what serves it until ctx ends or one of them falls. The
// servers end last: the others must be able to take over from a leader that stops.
func (n *node) runManager(ctx context.Context, m *manager.Manager, remote net.Listener) error {
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, running := errgroup.WithContext(running)
	gate := &rpc.Gate{}
	cfg := n.socketConfig()
	cfg.Leadership, cfg.Addr, cfg.Gate = m.Leadership(), *n.addr.Load(), gate
	stopLocal, err := n.answer(group, cfg, n.registerLocal, m.RegisterLocal)
	if err != nil {
		return errors.Join(err, remote.Close())
	}
	server, err := n.remoteServer(m, gate)
	if err != nil {
		return errors.Join(err, stopLocal(endedLimit), remote.Close())
	}
	n.playOnce.Do(func() { close(n.playing) })
	group.Go(func() error {
		if err := server.Serve(remote); !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	})
	ran := make(chan struct{})
	group.Go(func() error {
		defer close(ran)
		return m.Run(running)
	})
	if n.rootKey != nil {
		group.Go(func() error { return n.forgetRootKey(running, m) })
	}
	n.keepLock(running, m, group.Go)
	select {
	case <-ctx.Done():
		n.wind(m, gate)
	case <-running.Done(): // a part has fallen; group.Wait says which
	}
	end()
	<-ran
	drain(server, endedLimit)
	// The others may have let it go: its tasks are stopped now, and who asked for that is told. What
	// becomes of the tasks the others hear.
	n.noManager()
	n.awaitDeparture(ctx)
	err = stopLocal(endedLimit)
	return errors.Join(ignoreCanceled(group.Wait()), err)
}

// wind lets the requests that are under way have their answers before a manager ends: another
// leads first, if another can, so that none of them fails.
func (n *node) wind(m *manager.Manager, gate *rpc.Gate) {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	m.HandOver(ctx)
	gate.Close(ctx)
}

func (n *node) remoteServer(m *manager.Manager, gate *rpc.Gate) (*grpc.Server, error) {
	return rpc.NewServer(rpc.Config{
		Credentials: n.identity.ServerCredentials(),
		Authorizer:  rpc.NewMembers(m.Store(), n.identity.ClusterID()),
		Leadership:  m.Leadership(),
		Addr:        *n.addr.Load(),
		Gate:        gate,
		Now:         n.cfg.Now,
		Log:         n.cfg.Log,
		Metrics:     n.grpcMetrics,
	}, m.Register)
}

// forgetRootKey removes the root's key from the disk when the swarm has it.
func (n *node) forgetRootKey(ctx context.Context, m *manager.Manager) error {
	if err := m.AwaitServing(ctx); err != nil {
		return ignoreCanceled(err)
	}
	if err := n.dir.remove(certificatesDir, foundingKey); err != nil {
		return fmt.Errorf("remove the root's key, which the swarm holds now: %w", err)
	}
	n.rootKey = nil
	return nil
}

// setAside gives up the log of a manager that the others have removed: it must not come
// back under its raft id. It is again what the swarm says it is: a new member of the group,
// or a worker as soon as its session tells. Its log is set aside and not removed, since only
// a certificate shows what the swarm as a whole has decided.
func (n *node) setAside(ctx context.Context) error {
	if err := n.dir.edit(func(s *state) bool { s.RaftID = 0; return true }); err != nil {
		return err
	}
	n.cfg.Log.InfoContext(ctx, "this manager was removed from its group; its log is set aside", slog.String("dir", n.dir.join(removedDir)))
	return n.dir.setAside(raftDir, removedDir)
}

// retire gives up what only managers have, once this node's certificate says that it is
// none: its place in the group, the log, and the key and the lock that guarded it. The last
// run may have ended in between, so a worker that starts does it, too.
func (n *node) retire(ctx context.Context) error {
	had := false
	if err := n.dir.edit(func(s *state) bool {
		had = s.RaftID != 0
		s.RaftID = 0
		return had
	}); err != nil {
		return err
	}
	for _, name := range []string{raftDir, removedDir} {
		if err := n.dir.remove(name); err != nil {
			return fmt.Errorf("remove the log of a manager that is none any more: %w", err)
		}
	}
	if had {
		n.cfg.Log.InfoContext(ctx, "this node is a worker now", slog.String("node.id", n.identity.NodeID()))
	}
	return n.files.ForgetRaftKeys()
}

// answer serves the socket until stop, which leaves it open for who comes next.
func (n *node) answer(group *errgroup.Group, cfg rpc.Config, services ...func(grpc.ServiceRegistrar)) (stop func(time.Duration) error, err error) {
	server, err := rpc.NewServer(cfg, services...)
	if err != nil {
		return nil, err
	}
	loan, err := rpc.Lend(n.socket)
	if err != nil {
		server.Stop()
		return nil, err
	}
	served := make(chan struct{})
	group.Go(func() error {
		defer close(served)
		if err := server.Serve(loan); !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return func(limit time.Duration) error {
		drain(server, limit)
		<-served
		return loan.Return()
	}, nil
}

// drain stops a server. Requests in flight may end, until limit.
func drain(server *grpc.Server, limit time.Duration) {
	timer := time.AfterFunc(limit, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
}
