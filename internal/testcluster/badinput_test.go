package testcluster_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"skep/api"
	"skep/ca"
	"skep/client"
	"skep/internal/badinput"
	"skep/internal/testcluster"
	"skep/rpc"
)

// raw sends and receives bytes as they are.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// unknown is the number of a field that no message has.
const unknown = 536_870_000

// missing is a text in every field of a request: a reference to what does not exist.
const missing = "0nosuchthing0nosuchthing0"

// filled returns a message with something in every field, as deep as depth. References lead to
// nothing.
func filled(d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	badinput.Fill(m, depth, missing)
	return m
}

// encodings yields requests of a type as bytes: what stands for each says what is wrong with it,
// and undecodable whether it is no message at all.
func encodings(d protoreflect.MessageDescriptor, yield func(what string, data []byte, undecodable bool)) {
	encode := func(m proto.Message) []byte {
		data, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(m)
		if err != nil {
			panic(err)
		}
		return data
	}
	yield("an empty message", nil, false)
	for depth := range 3 {
		full := encode(filled(d, depth))
		yield(fmt.Sprintf("references to nothing, %d deep", depth), full, false)
		if len(full) > 0 {
			yield(fmt.Sprintf("a message of depth %d without its last byte", depth), full[:len(full)-1], true)
		}
	}
	full := filled(d, 1)
	yield("an unknown field", protowire.AppendVarint(protowire.AppendTag(encode(full), unknown, protowire.VarintType), 7), false)
	yield("bytes that are no message", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), true)
	yield("a group that does not end", protowire.AppendTag(nil, unknown, protowire.StartGroupType), true)
	yield("an oversize message", protowire.AppendBytes(protowire.AppendTag(nil, unknown, protowire.BytesType), make([]byte, rpc.MaxReceive)), true)
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		without := proto.Clone(full).(*dynamicpb.Message)
		without.Clear(f)
		yield("no "+string(f.Name()), encode(without), false)
		tag := protowire.AppendTag(encode(without), f.Number(), protowire.BytesType)
		switch {
		case f.Kind() == protoreflect.StringKind && !f.IsMap():
			yield(string(f.Name())+" that is not UTF-8", protowire.AppendBytes(tag, []byte("a\xff")), true)
		case f.Message() != nil:
			yield("an empty "+string(f.Name()), protowire.AppendBytes(tag, nil), false)
			yield(string(f.Name())+" that is no message", protowire.AppendBytes(tag, []byte("\xff\xff")), true)
			for j := range f.Message().Fields().Len() {
				inner := f.Message().Fields().Get(j)
				partial := filled(f.Message(), 1)
				partial.Clear(inner)
				if data := encode(partial); !f.IsMap() {
					yield(fmt.Sprintf("%s without %s", f.Name(), inner.Name()), protowire.AppendBytes(slices.Clone(tag), data), false)
				}
			}
		}
	}
}

// Faults 27 and 28 of the reliability promises: every RPC of a manager, found by reflection, with
// requests that are truncated, malformed, too large, not UTF-8, without one field each, with unknown
// fields, and with references to what does not exist. Each is answered, with a code that fits; an
// error has changed nothing; and the swarm works on, also after a restart with what was let in.
func TestNoRPCIsBrokenByWhatItIsSent(t *testing.T) {
	t.Parallel()
	testcluster.Run(t, 1, func(c *testcluster.Cluster) {
		m := c.Found("m1")
		root, cert, err := ca.NewFiles(m.Disk, testcluster.StateDir+"/certificates").Load(time.Now())
		if err != nil {
			c.T().Fatal(err)
		}
		host := c.Net.AddHost("client", "10.0.9.9")
		conn, err := client.Dial(m.Addr(), ca.NewIdentity(root, cert, time.Now).ClientCredentials(ca.ManagerOU), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return host.DialContext(ctx, "tcp", addr)
		}))
		if err != nil {
			c.T().Fatal(err)
		}
		defer conn.Close()
		tried, answers := 0, make(map[codes.Code]int)
		protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
			if p := file.Package(); p != "docker.swarmkit.v1" && p != "skep.v1" {
				return true
			}
			for i := range file.Services().Len() {
				service := file.Services().Get(i)
				for j := range service.Methods().Len() {
					method := service.Methods().Get(j)
					full := fmt.Sprintf("/%s/%s", service.FullName(), method.Name())
					var over grpc.ClientConnInterface = conn
					if service.Name() == "Local" {
						if method.Name() == "Leave" {
							continue // an empty request is a right one, and ends the swarm
						}
						over = m.Socket()
					}
					encodings(method.Input(), func(what string, data []byte, undecodable bool) {
						tried++
						before := stateOf(c)
						err := call(c.T().Context(), over, method, full, data)
						answers[status.Code(err)]++
						if wrong := judge(err, undecodable); wrong != "" {
							c.T().Errorf("%s: %s: %s: %v", full, what, wrong, err)
						}
						if err != nil && stateOf(c) != before {
							c.T().Errorf("%s: %s: the state changed, and the answer is %v", full, what, err)
						}
					})
				}
			}
			return true
		})
		c.T().Logf("%d requests were tried: %v", tried, answers)
		if tried < 1000 || answers[codes.OK] == 0 || answers[codes.NotFound] == 0 || answers[codes.InvalidArgument] == 0 {
			c.T().Errorf("of %d requests these became %v: that cannot be all", tried, answers)
		}
		// What a newer manager knows is kept by one that does not know it: in its log, in what it
		// answers, and in what it sends to others.
		spec := &api.ConfigSpec{Annotations: &api.Annotations{Name: "newer"}, Data: []byte("x")}
		newer := protowire.AppendVarint(protowire.AppendTag(nil, unknown, protowire.VarintType), 7)
		spec.ProtoReflect().SetUnknown(newer)
		if _, err := m.Client().Control.CreateConfig(c.T().Context(), &api.CreateConfigRequest{Spec: spec}); err != nil {
			c.T().Fatal(err)
		}
		before := stateOf(c)
		if err := m.Stop(); err != nil {
			c.T().Errorf("swarmd ends with %v", err)
		}
		c.Restart("m1")
		c.AwaitManager("m1")
		if after := stateOf(c); after != before {
			c.T().Error("after the restart the state is another one")
		}
		c.JoinManager("m2")
		for _, name := range []string{"m1", "m2"} {
			r, err := c.Control(name).ListConfigs(c.T().Context(), &api.ListConfigsRequest{Filters: &api.ListConfigsRequest_Filters{Names: []string{"newer"}}})
			if err != nil || len(r.GetConfigs()) != 1 {
				c.T().Fatalf("%s has %d configs of that name: %v", name, len(r.GetConfigs()), err)
			}
			if got := r.GetConfigs()[0].GetSpec().ProtoReflect().GetUnknown(); string(got) != string(newer) {
				c.T().Errorf("%s keeps %x of what it does not know, want %x", name, got, newer)
			}
		}
	})
}

// call makes a request and waits for the first answer, or the end of patience where a stream says
// nothing yet.
func call(ctx context.Context, over grpc.ClientConnInterface, method protoreflect.MethodDescriptor, full string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stream, err := over.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, full, grpc.ForceCodecV2(raw{}), grpc.MaxCallSendMsgSize(8<<20))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(data); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if method.IsStreamingServer() {
		timer := time.AfterFunc(time.Second, cancel)
		defer timer.Stop()
	}
	var answer []byte
	err = stream.RecvMsg(&answer)
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}

// judge says what is wrong with an answer, "" if nothing is.
func judge(err error, undecodable bool) string {
	st := status.Convert(err)
	switch {
	case strings.Contains(st.Message(), "failed inside the manager"):
		return "it panicked"
	case strings.Contains(st.Message(), "is not served here"):
		return "it is not offered"
	case len(st.Message()) > 4<<10:
		return fmt.Sprintf("the text has %d bytes", len(st.Message()))
	case undecodable && err == nil:
		return "it was taken"
	case undecodable:
		return ""
	}
	switch st.Code() {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.PermissionDenied,
		codes.Aborted, codes.ResourceExhausted, codes.Unimplemented, codes.DataLoss, codes.Unavailable:
		return ""
	}
	return "not a sensible code"
}

// stateOf is all that users and nodes have written, without what the manager's own loops make of it.
func stateOf(c *testcluster.Cluster) string {
	var out []string
	add := func(kind, id string, m proto.Message) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			c.T().Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s %x", kind, id, sha256.Sum256(data)))
	}
	if err := c.Ask(func(ctx context.Context, m client.Clients) error {
		out = out[:0]
		nodes, err := m.Control.ListNodes(ctx, &api.ListNodesRequest{})
		for _, o := range nodes.GetNodes() {
			add("node", o.GetId(), o.GetSpec())
		}
		services, err2 := m.Control.ListServices(ctx, &api.ListServicesRequest{})
		for _, o := range services.GetServices() {
			add("service", o.GetId(), o.GetSpec())
		}
		networks, err3 := m.Control.ListNetworks(ctx, &api.ListNetworksRequest{})
		for _, o := range networks.GetNetworks() {
			add("network", o.GetId(), o.GetSpec())
		}
		clusters, err4 := m.Control.ListClusters(ctx, &api.ListClustersRequest{})
		for _, o := range clusters.GetClusters() {
			add("cluster", o.GetId(), o.GetSpec())
		}
		secrets, err5 := m.Control.ListSecrets(ctx, &api.ListSecretsRequest{})
		for _, o := range secrets.GetSecrets() {
			add("secret", o.GetId(), o.GetSpec())
		}
		configs, err6 := m.Control.ListConfigs(ctx, &api.ListConfigsRequest{})
		for _, o := range configs.GetConfigs() {
			add("config", o.GetId(), o.GetSpec())
		}
		resources, err7 := m.Control.ListResources(ctx, &api.ListResourcesRequest{})
		for _, o := range resources.GetResources() {
			add("resource", o.GetId(), o.GetPayload())
		}
		volumes, err8 := m.Control.ListVolumes(ctx, &api.ListVolumesRequest{})
		for _, o := range volumes.GetVolumes() {
			add("volume", o.GetId(), o.GetSpec())
		}
		return errors.Join(err, err2, err3, err4, err5, err6, err7, err8)
	}); err != nil {
		c.T().Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
