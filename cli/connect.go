package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"skep/api"
	"skep/api/skep"
)

const (
	localSocket  = ".skep/swarmd.sock"
	systemSocket = "/var/run/swarmd.sock"
	// A list of 100,000 tasks is larger than gRPC's usual 4 MiB.
	maxMessage = 1 << 30
)

// dial connects to the node's socket, once for each run.
func (a *app) dial() (grpc.ClientConnInterface, error) {
	if a.conn != nil {
		return a.conn, nil
	}
	path, err := findSocket(a.socket, os.Getenv("SWARM_SOCKET"), os.Stat)
	if err != nil {
		return nil, err
	}
	a.path = path
	conn, err := grpc.NewClient("unix:"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUserAgent("swarmctl/"+version()))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	a.conn = conn
	a.close = func() { _ = conn.Close() } // the process ends; nothing is left to lose
	return a.conn, nil
}

func (a *app) control() (api.ControlClient, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	return api.NewControlClient(conn), nil
}

func (a *app) local() (skep.LocalClient, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	return skep.NewLocalClient(conn), nil
}

func (a *app) insight() (skep.InsightClient, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	return skep.NewInsightClient(conn), nil
}

// watch opens a stream of changes that carries on from now.
func (a *app) watch(ctx context.Context, entries ...*api.WatchRequest_WatchEntry) (api.Watch_WatchClient, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	stream, err := api.NewWatchClient(conn).Watch(ctx, &api.WatchRequest{Entries: entries})
	if err != nil {
		return nil, err
	}
	_, err = stream.Recv() // the empty message that says the watch is live
	return stream, err
}

// findSocket returns the first socket of the places that swarmctl looks at. A
// socket below the working directory counts only when it belongs to the caller:
// anybody may have put one into a shared directory.
func findSocket(flag, env string, stat func(string) (fs.FileInfo, error)) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if env != "" {
		return env, nil
	}
	tried := []string{}
	for _, place := range []struct {
		path string
		mine bool
	}{{localSocket, true}, {systemSocket, false}} {
		info, err := stat(place.path)
		switch {
		case err != nil:
			tried = append(tried, place.path+" (not there)")
		case info.Mode()&fs.ModeSocket == 0:
			tried = append(tried, place.path+" (not a socket)")
		case place.mine && !ownedByCaller(info):
			tried = append(tried, place.path+" (belongs to somebody else)")
		default:
			return place.path, nil
		}
	}
	return "", exitf(ExitUnavailable, "no node found: tried %s\nStart one with 'make run' or 'swarmd', or name its socket with --socket or SWARM_SOCKET.",
		strings.Join(tried, ", "))
}

func ownedByCaller(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid()
}
