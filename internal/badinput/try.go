package badinput

import (
	"context"
	"fmt"
	"runtime/debug"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Server is a server to try, and how to tell whether its state has changed.
type Server struct {
	// Impl implements the service.
	Impl any
	// State returns something that differs when the state does: a version, a hash.
	State func() string
}

// Try calls every unary method of a service with the empty request, with each of
// the good ones of its type, and with all mutants of both. fresh makes a server;
// one is used until it has changed. Each method must have a good request that is
// carried out or refused with a reason, so that mutants get past the first check.
// sensible says whether a method may answer with an error.
func Try(t *testing.T, desc *grpc.ServiceDesc, fresh func(testing.TB) Server, good []proto.Message, sensible func(error) bool) {
	t.Helper()
	for _, method := range desc.Methods {
		t.Run(method.MethodName, func(t *testing.T) {
			t.Parallel()
			empty := requestOf(t.Context(), method)
			bases := []proto.Message{empty}
			for _, g := range good {
				if g.ProtoReflect().Descriptor() == empty.ProtoReflect().Descriptor() {
					bases = append(bases, g)
				}
			}
			if len(bases) == 1 && empty.ProtoReflect().Descriptor().Fields().Len() > 0 {
				t.Fatalf("%s has no good request to begin with", method.MethodName)
			}
			server := begin(t, fresh)
			for i, base := range bases {
				server = try(t, server, fresh, method, "unchanged", base, sensible)
				depth := maxDepth
				if i == 0 {
					depth = 1 // what lies deeper is not looked at while the rest is missing
				}
				for what, mutant := range mutants(base, depth) {
					server = try(t, server, fresh, method, fmt.Sprintf("request %d: %s", i, what), mutant, sensible)
				}
			}
		})
	}
}

// Fuzz is Try for a fuzz target: the fuzzer chooses a method and the bytes of its
// request. The good requests are where it begins.
func Fuzz(f *testing.F, desc *grpc.ServiceDesc, fresh func(testing.TB) Server, good []proto.Message, sensible func(error) bool) {
	f.Helper()
	for i, method := range desc.Methods {
		name := requestOf(f.Context(), method).ProtoReflect().Descriptor().FullName()
		for _, g := range good {
			if g.ProtoReflect().Descriptor().FullName() != name {
				continue
			}
			data, err := proto.Marshal(g)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), data) // no service has 256 methods
		}
	}
	server := begin(f, fresh)
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		method := desc.Methods[int(which)%len(desc.Methods)]
		request := requestOf(t.Context(), method)
		if proto.Unmarshal(data, request) != nil {
			return // answered by gRPC
		}
		server = try(t, server, fresh, method, method.MethodName, request, sensible)
	})
}

// maxErrorText is how long the text of an error may be, in bytes: it travels in a
// header, and more of it than gRPC takes is lost.
const maxErrorText = 4 << 10

// trial is a server and the state it was last seen in.
type trial struct {
	Server
	before string
}

func begin(t testing.TB, fresh func(testing.TB) Server) trial {
	server := fresh(t)
	return trial{server, server.State()}
}

// try makes one call and returns what the next one is made to.
func try(t *testing.T, server trial, fresh func(testing.TB) Server, method grpc.MethodDesc, what string, request proto.Message, sensible func(error) bool) trial {
	t.Helper()
	panicked, err := call(t.Context(), server.Impl, method, request)
	changed := server.State() != server.before
	switch {
	case panicked != "":
		t.Errorf("%s: panic: %s", what, panicked)
		return begin(t, fresh)
	case err == nil:
	case !sensible(err):
		t.Errorf("%s: not a sensible error: %.1000s", what, err)
	case len(err.Error()) > maxErrorText:
		t.Errorf("%s: the error has %d bytes, of which a client sees none: %.200s…", what, len(err.Error()), err)
	case changed:
		t.Errorf("%s: the state changed, and the answer is an error: %v", what, err)
	}
	if changed {
		return begin(t, fresh)
	}
	return server
}

// call gives a handler the fields of request, as if they had been decoded, and
// encodes its answer, which has to be possible if the request was.
func call(ctx context.Context, impl any, method grpc.MethodDesc, request proto.Message) (panicked string, err error) {
	defer func() {
		if p := recover(); p != nil {
			panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	answer, err := method.Handler(impl, ctx, func(into any) error {
		decoded := into.(proto.Message).ProtoReflect()
		request.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			decoded.Set(field, v)
			return true
		})
		return nil
	}, nil)
	if err == nil && encodes(request) {
		_, err = proto.Marshal(answer.(proto.Message))
	}
	return "", err
}

// encodes reports whether m could have arrived over the wire.
func encodes(m proto.Message) bool {
	_, err := proto.Marshal(m)
	return err == nil
}

// requestOf returns an empty request of a method: the type is known only to the
// generated handler, which asks for one to be decoded.
func requestOf(ctx context.Context, method grpc.MethodDesc) proto.Message {
	var request proto.Message
	stop := fmt.Errorf("enough")
	_, _ = method.Handler(nil, ctx, func(into any) error {
		request = into.(proto.Message)
		return stop
	}, nil)
	return request
}
