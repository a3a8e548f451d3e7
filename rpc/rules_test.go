package rpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

func TestEveryMethodOfTheContractHasARuleAndARoute(t *testing.T) {
	t.Parallel()
	services := 0
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if file.Package() != "docker.swarmkit.v1" && file.Package() != "skep.v1" {
			return true
		}
		for i := range file.Services().Len() {
			services++
			service := file.Services().Get(i)
			methods, err := methodsOf(string(service.FullName()))
			if err != nil {
				t.Error(err)
			}
			if len(methods) != service.Methods().Len() {
				t.Errorf("%s: %d methods have a rule and a route, of %d", service.FullName(), len(methods), service.Methods().Len())
			}
			for _, m := range methods {
				if !m.open && len(m.roles) == 0 {
					t.Errorf("%s is for nobody", m.full)
				}
			}
		}
		return true
	})
	if services < 12 {
		t.Errorf("only %d services were looked at", services)
	}
}

func TestWhoWritesIsRoutedToTheLeader(t *testing.T) {
	t.Parallel()
	methods, err := methodsOf("docker.swarmkit.v1.Control")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range methods {
		want := Leader
		if strings.HasPrefix(m.name, "Get") || strings.HasPrefix(m.name, "List") {
			want = Read
		}
		if m.route != want {
			t.Errorf("%s has route %d, want %d", m.full, m.route, want)
		}
	}
}

func TestAMethodWithoutARuleDoesNotStart(t *testing.T) {
	t.Parallel()
	_, err := NewServer(Config{Credentials: insecure.NewCredentials(), Authorizer: nobody{}}, func(r grpc.ServiceRegistrar) {
		healthpb.RegisterHealthServer(r, healthpb.UnimplementedHealthServer{})
	})
	if err == nil || !strings.Contains(err.Error(), "/grpc.health.v1.Health/Check: it does not say who may call it") {
		t.Errorf("error %v", err)
	}
}

func TestAServerNeedsToKnowWhoMayCall(t *testing.T) {
	t.Parallel()
	if _, err := NewServer(Config{}); err == nil {
		t.Error("a server without credentials was made")
	}
	if _, err := NewServer(Config{Credentials: insecure.NewCredentials()}); err == nil {
		t.Error("a server without an authorizer was made")
	}
}
