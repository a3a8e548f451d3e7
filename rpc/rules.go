package rpc

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"skep/api"
)

// method is what the interceptors know of one RPC method.
type method struct {
	full          string // "/docker.swarmkit.v1.Control/GetNode"
	service, name string
	open          bool     // anyone may call it, also without a certificate
	roles         []string // else: the roles that may
	route         Route

	serverStreams, clientStreams bool
}

// methodsOf reads the rule of each method of a service from its descriptor and
// its route from the table.
func methodsOf(service string) ([]*method, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, fmt.Errorf("serve %s: its descriptor is not linked in: %w", service, err)
	}
	desc, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("serve %s: it is no service", service)
	}
	var methods []*method
	for i := range desc.Methods().Len() {
		md := desc.Methods().Get(i)
		m := &method{full: "/" + service + "/" + string(md.Name()), service: service, name: string(md.Name())}
		rule, ok := proto.GetExtension(md.Options(), api.E_TlsAuthorization).(*api.TLSAuthorization)
		if !ok || rule == nil || (!rule.GetInsecure() && len(rule.GetRoles()) == 0) {
			return nil, fmt.Errorf("serve %s: it does not say who may call it: give it the option tls_authorization", m.full)
		}
		m.open, m.roles = rule.GetInsecure(), rule.GetRoles()
		if m.route = routeOf(m.full); m.route == 0 {
			return nil, fmt.Errorf("serve %s: it has no route: give it a line in rpc/routes.go", m.full)
		}
		m.serverStreams, m.clientStreams = md.IsStreamingServer(), md.IsStreamingClient()
		methods = append(methods, m)
	}
	return methods, nil
}

// splitMethod cuts "/service/method".
func splitMethod(full string) (service, name string) {
	service, name, _ = strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return service, name
}
