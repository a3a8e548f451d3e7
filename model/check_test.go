package model_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"skep/api"
	_ "skep/api/skep" // so that text can hold a ProcessSpec
	"skep/model"
)

// Each case of testdata/check writes what differs from a good spec (see
// goodSpecs), in the text form of protobuf, and the verdict. without=(a.b)
// takes a field away first; long=(a.b) gives a text field 1 MB.
func TestSpecsAreChecked(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/check", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			good, ok := goodSpecs()[d.Cmd]
			if !ok {
				d.Fatalf(t, "no spec is called %q", d.Cmd)
			}
			spec := good.spec
			for _, arg := range d.CmdArgs {
				for _, path := range arg.Vals {
					switch arg.Key {
					case "without":
						takeAway(spec.ProtoReflect(), strings.Split(path, "."))
					case "long":
						lengthen(spec.ProtoReflect(), strings.Split(path, "."))
					default:
						d.Fatalf(t, "unknown argument %q", arg.Key)
					}
				}
			}
			change := spec.ProtoReflect().New().Interface()
			if err := prototext.Unmarshal([]byte(d.Input), change); err != nil {
				d.Fatalf(t, "%v", err)
			}
			proto.Merge(spec, change)
			return verdict(good.check())
		})
	})
}

// A nil spec, and one with nothing in it, are errors and no panic.
func TestASpecThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"no service":       model.CheckService(nil),
		"empty service":    model.CheckService(&api.ServiceSpec{}),
		"no secret":        model.CheckSecret(nil),
		"no secret update": model.CheckSecretUpdate(nil, nil),
		"no config":        model.CheckConfig(nil),
		"no config update": model.CheckConfigUpdate(nil, nil),
		"no network":       model.CheckNetwork(nil),
		"no volume":        model.CheckVolume(nil),
		"no volume update": model.CheckVolumeUpdate(nil, nil),
		"no cluster":       model.CheckCluster(nil),
		"no node":          model.CheckNode(nil),
		"no extension":     model.CheckExtension(nil),
		"no resource":      model.CheckResource(nil, ""),
	} {
		if err == nil || model.KindOf(err) != model.Invalid {
			t.Errorf("%s: got %v, want an error of kind Invalid", name, err)
		}
	}
}

type goodSpec struct {
	spec  proto.Message
	check func() error
}

// goodSpecs returns one accepted spec of each kind, and how it is checked.
func goodSpecs() map[string]goodSpec {
	container := parse(&api.ServiceSpec{}, `
		annotations { name: "web" }
		task { container { image: "nginx:1.27" } }
		replicated { replicas: 3 }`)
	process := parse(&api.ServiceSpec{}, `
		annotations { name: "hello" }
		task { generic { kind: "process" payload { [type.googleapis.com/skep.v1.ProcessSpec] { command: "hello" } } } }
		replicated { replicas: 3 }`)
	job := parse(&api.ServiceSpec{}, `
		annotations { name: "backup" }
		task { container { image: "backup" } }
		replicated_job { max_concurrent: 1 total_completions: 2 }`)
	secret := parse(&api.SecretSpec{}, `annotations { name: "db.password" } data: "s3cret"`)
	config := parse(&api.ConfigSpec{}, `annotations { name: "site.conf" } data: "listen 80"`)
	network := parse(&api.NetworkSpec{}, `annotations { name: "front" } ipam { configs { subnet: "10.1.0.0/16" } }`)
	volume := parse(&api.VolumeSpec{}, `
		annotations { name: "data-1" }
		driver { name: "nfs" }
		access_mode { scope: SINGLE_NODE sharing: NONE mount { } }`)
	changed := proto.Clone(volume).(*api.VolumeSpec)
	cluster := parse(&api.ClusterSpec{}, `annotations { name: "default" }`)
	node := parse(&api.NodeSpec{}, `availability: DRAIN`)
	return map[string]goodSpec{
		"service":       {container, func() error { return model.CheckService(container) }},
		"process":       {process, func() error { return model.CheckService(process) }},
		"job":           {job, func() error { return model.CheckService(job) }},
		"secret":        {secret, func() error { return model.CheckSecret(secret) }},
		"config":        {config, func() error { return model.CheckConfig(config) }},
		"network":       {network, func() error { return model.CheckNetwork(network) }},
		"volume":        {volume, func() error { return model.CheckVolume(volume) }},
		"volume-update": {changed, func() error { return model.CheckVolumeUpdate(volume, changed) }},
		"cluster":       {cluster, func() error { return model.CheckCluster(cluster) }},
		"node":          {node, func() error { return model.CheckNode(node) }},
	}
}

func parse[M proto.Message](m M, text string) M {
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		panic(err)
	}
	return m
}

func verdict(err error) string {
	if err == nil {
		return "good\n"
	}
	kinds := map[model.Kind]string{model.Invalid: "invalid", model.Denied: "denied", model.Unimplemented: "unimplemented"}
	return fmt.Sprintf("%s: %v\n", kinds[model.KindOf(err)], err)
}

func takeAway(m protoreflect.Message, path []string) {
	field := m.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if len(path) == 1 {
		m.Clear(field)
		return
	}
	takeAway(m.Mutable(field).Message(), path[1:])
}

func lengthen(m protoreflect.Message, path []string) {
	field := m.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if len(path) > 1 {
		lengthen(m.Mutable(field).Message(), path[1:])
		return
	}
	long := strings.Repeat("x", 1<<20)
	if field.Kind() == protoreflect.BytesKind {
		m.Set(field, protoreflect.ValueOfBytes([]byte(long)))
		return
	}
	m.Set(field, protoreflect.ValueOfString(long))
}
