package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"skep/api"
)

// bare is the least that a server can do: the yardstick that managers are held
// against. It answers calls with nothing and keeps streams open.
type bare struct {
	api.UnimplementedHealthServer
	api.UnimplementedDispatcherServer
}

func (bare) Check(context.Context, *api.HealthCheckRequest) (*api.HealthCheckResponse, error) {
	return &api.HealthCheckResponse{}, nil
}

func (bare) Heartbeat(context.Context, *api.HeartbeatRequest) (*api.HeartbeatResponse, error) {
	return &api.HeartbeatResponse{}, nil
}

func (bare) Session(_ *api.SessionRequest, stream grpc.ServerStreamingServer[api.SessionMessage]) error {
	return holdOpen(stream, &api.SessionMessage{})
}

func (bare) Assignments(_ *api.AssignmentsRequest, stream grpc.ServerStreamingServer[api.AssignmentsMessage]) error {
	return holdOpen(stream, &api.AssignmentsMessage{})
}

func (bare) Tasks(_ *api.TasksRequest, stream grpc.ServerStreamingServer[api.TasksMessage]) error {
	return holdOpen(stream, &api.TasksMessage{})
}

// holdOpen sends one message and keeps the stream open until the client leaves.
func holdOpen[M any](stream grpc.ServerStreamingServer[M], first *M) error {
	if err := stream.Send(first); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// durable answers an empty call when a small record of it is on the disk.
type durable struct {
	bare
	log *syncedFile
}

func (d durable) Check(context.Context, *api.HealthCheckRequest) (*api.HealthCheckResponse, error) {
	if err := d.log.append(); err != nil {
		return nil, err
	}
	return &api.HealthCheckResponse{}, nil
}

func echoServerCommand() *cobra.Command {
	var socket, log string
	c := &cobra.Command{
		Use: "echo-server", Hidden: true, Short: "Answer empty calls on a socket", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			listener, err := net.Listen("unix", socket)
			if err != nil {
				return err
			}
			server := grpc.NewServer()
			if log == "" {
				api.RegisterHealthServer(server, bare{})
			} else {
				file, err := newSyncedFile(log)
				if err != nil {
					return errors.Join(err, listener.Close())
				}
				defer file.Close()
				api.RegisterHealthServer(server, durable{log: file})
			}
			context.AfterFunc(c.Context(), server.Stop)
			return server.Serve(listener)
		},
	}
	c.Flags().StringVar(&socket, "socket", "", "where to listen")
	c.Flags().StringVar(&log, "log", "", "file that each call appends to, with fdatasync, before it is answered")
	return c
}

func bareServerCommand() *cobra.Command {
	var dir, listen, ready string
	c := &cobra.Command{
		Use: "bare-server", Hidden: true, Short: "Hold connections with mutual TLS and do nothing", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			secure, err := stockTLS(dir)
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			// Whoever started this waits for a socket that takes connections.
			signal, err := net.Listen("unix", ready)
			if err != nil {
				return errors.Join(err, listener.Close())
			}
			defer signal.Close()
			server := grpc.NewServer(grpc.Creds(secure))
			api.RegisterDispatcherServer(server, bare{})
			context.AfterFunc(c.Context(), server.Stop)
			return server.Serve(listener)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory of the certificates")
	c.Flags().StringVar(&listen, "listen", "", "where to listen")
	c.Flags().StringVar(&ready, "ready", "", "socket that is there once it listens")
	return c
}

// bareServer is a bare server in another process, and who makes the certificates of its clients.
type bareServer struct {
	child
	addr string
	yard *yard
}

// startBare starts a bare server, whose certificates are in dir.
func startBare(ctx context.Context, dir string) (b bareServer, err error) {
	if b.addr, err = freeAddr(); err != nil {
		return b, err
	}
	if b.yard, err = newYard(dir); err != nil {
		return b, err
	}
	ready := filepath.Join(dir, "ready.sock")
	b.child, err = startSelf(ctx, ready, "bare-server", "--dir", dir, "--listen", b.addr, "--ready", ready)
	return b, err
}

// stockTLS is mutual TLS as grpc-go brings it.
func stockTLS(dir string) (credentials.TransportCredentials, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "swarm-node.crt"), filepath.Join(dir, "swarm-node.key"))
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(dir, "swarm-root-ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, errors.New("no root certificate")
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}), nil
}
