package model

import (
	"strings"

	"skep/api"
)

// Architecture returns the one name, in lower case, under which equal
// architectures compare equal: engines report the kernel's names (x86_64,
// aarch64), image registries and Go use others (amd64, arm64).
func Architecture(name string) string {
	switch lower := strings.ToLower(name); lower {
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	default:
		return lower
	}
}

// RunsOn reports whether a task built for any of the listed platforms runs on a
// node of platform have. An empty list, and an empty field in it, accept all.
func RunsOn(have *api.Platform, listed []*api.Platform) bool {
	for _, want := range listed {
		if (want.GetOs() == "" || strings.EqualFold(want.GetOs(), have.GetOs())) &&
			(want.GetArchitecture() == "" || Architecture(want.GetArchitecture()) == Architecture(have.GetArchitecture())) {
			return true
		}
	}
	return len(listed) == 0
}
