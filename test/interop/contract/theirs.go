package contract

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	gogo "github.com/gogo/protobuf/proto"
	_ "github.com/moby/swarmkit/v2/api" // registers the contract with gogo's registry
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// theirPath is the directory under which the module registers its files.
const theirPath = "github.com/docker/swarmkit/api/"

// theirRaft is the name by which the module's files import etcd's raft, which
// itself registers as raft.proto.
const theirRaft = "go.etcd.io/raft/v3/raftpb/raft.proto"

// theirFiles are all of the contract.
var theirFiles = []string{
	"ca", "control", "dispatcher", "health", "logbroker", "objects",
	"raft", "resource", "snapshot", "specs", "types", "watch",
}

// Theirs returns the descriptors that the module registers for the contract.
func Theirs() (out []protoreflect.FileDescriptor, err error) {
	var files protoregistry.Files
	for _, name := range theirFiles {
		f, err := theirFile(&files, theirPath+name+".proto")
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// theirFile returns the file called path, taking it and what it imports into
// files first where they are not there yet.
func theirFile(files *protoregistry.Files, path string) (protoreflect.FileDescriptor, error) {
	if f, err := files.FindFileByPath(path); err == nil {
		return f, nil
	}
	raw, err := theirDescriptor(path)
	if raw == nil || err != nil {
		return nil, err // it only carries options, which are no part of the wire
	}
	for _, dependency := range raw.Dependency {
		if _, err := theirFile(files, dependency); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	f, err := protodesc.FileOptions{AllowUnresolvable: true}.New(raw, files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, files.RegisterFile(f)
}

// theirDescriptor looks path up in gogo's registry, or in the standard one
// where etcd's raft and Google's own files are; nil when neither has it.
func theirDescriptor(path string) (*descriptorpb.FileDescriptorProto, error) {
	zipped := gogo.FileDescriptor(path)
	if zipped == nil {
		return registered(path), nil
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	raw := &descriptorpb.FileDescriptorProto{}
	return raw, proto.Unmarshal(data, raw)
}

func registered(path string) *descriptorpb.FileDescriptorProto {
	name := path
	if path == theirRaft {
		name = "raft.proto"
	}
	f, err := protoregistry.GlobalFiles.FindFileByPath(name)
	if err != nil {
		return nil
	}
	raw := protodesc.ToFileDescriptorProto(f)
	raw.Name = &path
	return raw
}

// nullableOption is the number of gogo's field option that makes a message a
// plain struct in Go.
const nullableOption = 65001

// AlwaysWritten returns the names of the fields that their code writes whether
// they are set or not: unset comes back as set and empty.
func AlwaysWritten(files ...protoreflect.FileDescriptor) map[protoreflect.FullName]bool {
	out := map[protoreflect.FullName]bool{}
	for _, f := range files {
		for _, d := range messageTypes(f.Messages()) {
			for i := range d.Fields().Len() {
				f := d.Fields().Get(i)
				if options, err := proto.Marshal(f.Options()); err == nil {
					for _, nullable := range fields(options, nullableOption) {
						out[f.FullName()] = nullable.varint == 0
					}
				}
			}
		}
	}
	return out
}

// messageTypes returns the messages of list and those declared inside them,
// without the entries of maps.
func messageTypes(list protoreflect.MessageDescriptors) (types []protoreflect.MessageDescriptor) {
	for i := range list.Len() {
		if d := list.Get(i); !d.IsMapEntry() {
			types = append(types, d)
			types = append(types, messageTypes(d.Messages())...)
		}
	}
	return types
}
