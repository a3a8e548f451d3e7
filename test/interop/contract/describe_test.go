package contract

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/test/interop/built"
)

// parties returns our descriptors of the contract and theirs.
func parties(t *testing.T) (ours, theirs []protoreflect.FileDescriptor) {
	t.Helper()
	all, err := Ours(t.Context(), built.Root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.Package() == wirePackage {
			ours = append(ours, f)
		}
	}
	theirs, err = Theirs()
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func TestOurProtosDescribeTheSameContract(t *testing.T) {
	t.Parallel()
	ours, theirs := parties(t)
	got, want := Describe(ours...), Describe(theirs...)
	if len(want) < 1000 {
		t.Fatalf("their side has %d lines, which cannot be all of the contract", len(want))
	}
	difference(t, got, want)
}

// The raft messages inside are those of two versions of one library: ours may
// know more, and knows all that theirs does.
func TestOurRaftMessagesKnowWhatTheirsDo(t *testing.T) {
	t.Parallel()
	ours, theirs := parties(t)
	got, want := Describe(imported(t, ours, "raftpb")), Describe(imported(t, theirs, "raftpb"))
	for _, line := range want {
		if _, found := slices.BinarySearch(got, line); !found {
			t.Errorf("ours lacks: %s", line)
		}
	}
}

// imported finds the file of the given package that one of files imports.
func imported(t *testing.T, files []protoreflect.FileDescriptor, pkg protoreflect.FullName) protoreflect.FileDescriptor {
	t.Helper()
	for _, f := range files {
		for i := range f.Imports().Len() {
			if f := f.Imports().Get(i); f.Package() == pkg {
				return f.FileDescriptor
			}
		}
	}
	t.Fatalf("no file imports package %s", pkg)
	return nil
}

func difference(t *testing.T, got, want []string) {
	t.Helper()
	for _, line := range got {
		if _, found := slices.BinarySearch(want, line); !found {
			t.Errorf("only ours:   %s", line)
		}
	}
	for _, line := range want {
		if _, found := slices.BinarySearch(got, line); !found {
			t.Errorf("only theirs: %s", line)
		}
	}
}

func TestADifferenceOnTheWireIsADifferenceInTheLines(t *testing.T) {
	t.Parallel()
	ours, _ := parties(t)
	lines := strings.Join(Describe(ours...), "\n")
	for _, want := range []string{
		"message docker.swarmkit.v1.GlobalService\n",
		"field docker.swarmkit.v1.ListNodesRequest.Filters.roles = 5: repeated enum docker.swarmkit.v1.NodeRole\n",
		"field docker.swarmkit.v1.ContainerSpec.PullOptions.registry_auth = 64: optional string\n",
		"field docker.swarmkit.v1.ServiceSpec.replicated = 3: optional message docker.swarmkit.v1.ReplicatedService presence oneof mode\n",
		"enum docker.swarmkit.v1.TaskState: ORPHANED = 832\n",
		"method docker.swarmkit.v1.LogBroker.PublishLogs(stream docker.swarmkit.v1.PublishLogsMessage) returns (docker.swarmkit.v1.PublishLogsResponse) for swarm-manager+swarm-worker\n",
		"method docker.swarmkit.v1.NodeCA.NodeCertificateStatus(docker.swarmkit.v1.NodeCertificateStatusRequest) returns (docker.swarmkit.v1.NodeCertificateStatusResponse) for anyone",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no line says %q", strings.TrimSpace(want))
		}
	}
}
