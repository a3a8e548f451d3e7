package contract

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wirePackage is the package that the contract is about.
const wirePackage = "docker.swarmkit.v1"

// Ours compiles the .proto files of api/ in the repository at root, by the
// same paths as tools/protogen does, against the raft.proto of the raft version
// that the main module requires.
func Ours(ctx context.Context, root string) ([]protoreflect.FileDescriptor, error) {
	paths, err := filepath.Glob(filepath.Join(root, "api", "*.proto"))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = "api/" + filepath.Base(p)
	}
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "go.etcd.io/raft/v3")
	list.Dir = root
	raft, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("find the main module's raft: %w", err)
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
			ImportPaths: []string{root, filepath.Join(strings.TrimSpace(string(raft)), "raftpb")},
		}),
	}
	compiled, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	files := make([]protoreflect.FileDescriptor, len(compiled))
	for i, f := range compiled {
		files[i] = f
	}
	return files, nil
}
