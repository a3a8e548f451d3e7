package node

import (
	"context"
	"errors"
	"os"
	"runtime"

	"skep/agent/exec"
	"skep/api"
)

// noExecutor is the executor of a node that runs no tasks.
type noExecutor struct{}

func (noExecutor) Describe(context.Context) (*api.NodeDescription, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return &api.NodeDescription{
		Hostname:  hostname,
		Platform:  &api.Platform{Architecture: runtime.GOARCH, Os: runtime.GOOS},
		Resources: &api.Resources{},
		Engine:    &api.EngineDescription{Plugins: []*api.PluginDescription{{Type: "Runtime", Name: "none"}}},
	}, nil
}

func (noExecutor) Configure(context.Context, *api.Node) error { return nil }

func (noExecutor) Controller(*api.Task, exec.Dependencies) (exec.Controller, error) {
	return nil, errors.New("this node runs no tasks: it was started with --executor none")
}

func (noExecutor) SetNetworkBootstrapKeys([]*api.EncryptionKey) error { return nil }
