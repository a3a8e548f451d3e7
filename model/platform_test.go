package model

import (
	"testing"

	"skep/api"
)

func TestPlatformsThatAreOneByTwoNamesAreOne(t *testing.T) {
	t.Parallel()
	engine := &api.Platform{Os: "linux", Architecture: "x86_64"}
	for _, c := range []struct {
		name   string
		have   *api.Platform
		listed []*api.Platform
		want   bool
	}{
		{"nothing listed", engine, nil, true},
		{"nothing listed, nothing known", nil, nil, true},
		{"registry's name", engine, []*api.Platform{{Os: "linux", Architecture: "amd64"}}, true},
		{"kernel's name, Go's node", &api.Platform{Os: "linux", Architecture: "arm64"}, []*api.Platform{{Os: "Linux", Architecture: "AARCH64"}}, true},
		{"another system", engine, []*api.Platform{{Os: "windows", Architecture: "amd64"}}, false},
		{"another architecture", engine, []*api.Platform{{Os: "linux", Architecture: "arm64"}}, false},
		{"the second of two", engine, []*api.Platform{{Os: "linux", Architecture: "arm64"}, {Os: "linux", Architecture: "amd64"}}, true},
		{"any architecture", engine, []*api.Platform{{Os: "linux"}}, true},
		{"any system", engine, []*api.Platform{{Architecture: "amd64"}}, true},
		{"an unknown node", nil, []*api.Platform{{Os: "linux"}}, false},
	} {
		if got := RunsOn(c.have, c.listed); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
