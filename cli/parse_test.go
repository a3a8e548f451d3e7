package cli

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"skep/api"
)

func TestPortsAreParsedInBothSpellings(t *testing.T) {
	t.Parallel()
	host := api.PortConfig_HOST
	for _, c := range []struct {
		parse func(string) (*api.PortConfig, error)
		in    string
		want  *api.PortConfig
	}{
		{parsePublish, "80", &api.PortConfig{TargetPort: 80, PublishMode: host}},
		{parsePublish, "8080:80", &api.PortConfig{TargetPort: 80, PublishedPort: 8080, PublishMode: host}},
		{parsePublish, "0:53/UDP", &api.PortConfig{TargetPort: 53, Protocol: api.PortConfig_UDP, PublishMode: host}},
		{parsePublish, "8080:80/sctp", &api.PortConfig{TargetPort: 80, PublishedPort: 8080, Protocol: api.PortConfig_SCTP, PublishMode: host}},
		{parsePort, "web:80", &api.PortConfig{Name: "web", TargetPort: 80, PublishMode: host}},
		{parsePort, "dns:53/udp:5353/udp", &api.PortConfig{Name: "dns", TargetPort: 53, PublishedPort: 5353, Protocol: api.PortConfig_UDP, PublishMode: host}},
		{parsePublish, "", nil},
		{parsePublish, "65536", nil},
		{parsePublish, "a:80", nil},
		{parsePublish, "80/http", nil},
		{parsePort, "80", nil},
		{parsePort, "web:x", nil},
	} {
		got, err := c.parse(c.in)
		if c.want == nil {
			if err == nil {
				t.Errorf("%q: got %v, want an error", c.in, got)
			}
			continue
		}
		if err != nil || !proto.Equal(got, c.want) {
			t.Errorf("%q: got %v, %v; want %v", c.in, prototext.Format(got), err, prototext.Format(c.want))
		}
	}
}

func TestQuantitiesAreParsedExactlyOrRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parse func(string) (int64, error)
		in    string
		want  int64 // -1: refused
	}{
		{parseCPUs, "0.5", 500_000_000},
		{parseCPUs, "2", 2_000_000_000},
		{parseCPUs, "0.1", 100_000_000},
		{parseCPUs, "1/4", 250_000_000},
		{parseCPUs, "0.0000000001", -1},
		{parseCPUs, "-1", -1},
		{parseCPUs, "lots", -1},
		{parseCPUs, "99999999999", -1},
		{parseBytes, "512", 512},
		{parseBytes, "512m", 512 << 20},
		{parseBytes, "512MiB", 512 << 20},
		{parseBytes, "1.5g", 3 << 29},
		{parseBytes, "64KB", 64 << 10},
		{parseBytes, "", -1},
		{parseBytes, "-1m", -1},
		{parseBytes, "m", -1},
		{parseBytes, "99999p", -1},
		{parseBytes, "NaN", -1},
	} {
		got, err := c.parse(c.in)
		if c.want < 0 {
			if err == nil {
				t.Errorf("%q: got %d, want an error", c.in, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: got %d, %v; want %d", c.in, got, err, c.want)
		}
	}
}

func FuzzWhatAUserTypesIsParsedOrRefused(f *testing.F) {
	for _, seed := range []string{"8080:80/tcp", "web:80:8080", "512m", "nofile=1:2", "/tmp:size=1m,mode=700,ro", "gpu=2", "a:b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if p, err := parsePublish(in); err == nil && p.TargetPort > 65535 {
			t.Errorf("%q became port %d", in, p.TargetPort)
		}
		if n, err := parseBytes(in); err == nil && n < 0 {
			t.Errorf("%q became %d bytes", in, n)
		}
		if n, err := parseCPUs(in); err == nil && n < 0 {
			t.Errorf("%q became %d billionths of a CPU", in, n)
		}
		if u, err := parseUlimit(in); err == nil && u.Name == "" {
			t.Errorf("%q became a limit without a name", in)
		}
		if g, err := parseGeneric(in); err == nil && g.GetDiscreteResourceSpec().GetKind() == "" {
			t.Errorf("%q became a resource without a kind", in)
		}
		if m, err := parseTmpfs(in); err == nil && m.Type != api.Mount_TMPFS {
			t.Errorf("%q became a mount of type %s", in, m.Type)
		}
	})
}
