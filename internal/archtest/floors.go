package archtest

import (
	"fmt"
	"path"
	"strings"
)

// floors says on which floor each folder stands; a package imports lower
// floors only. A folder that is not listed stands where the nearest listed
// folder above it stands, as a part of that one. docs/ARCHITECTURE.md shows
// the same table with what each folder is for.
var floors = map[string]int{
	"api": 1,

	"api/skep": 2,
	"vfs":      2,

	"model": 3,

	"store":    4,
	"template": 4,

	"agent/exec": 5,
	"ca":         5,
	"loop":       5,

	"agent/csi":            6,
	"agent/exec/docker":    6,
	"agent/exec/fake":      6,
	"agent/exec/process":   6,
	"client":               6,
	"control/allocator":    6,
	"control/csi":          6,
	"control/dispatch":     6,
	"control/enforcer":     6,
	"control/issuer":       6,
	"control/orchestrator": 6,
	"control/reaper":       6,
	"control/rotator":      6,
	"control/scheduler":    6,
	"gossip":               6,
	"raft":                 6,
	"rpc":                  6,

	"agent":           7,
	"cli":             7,
	"rpc/caserver":    7,
	"rpc/controlapi":  7,
	"rpc/dispatcher":  7,
	"rpc/insight":     7,
	"rpc/logbroker":   7,
	"rpc/raftserver":  7,
	"rpc/recovery":    7,
	"rpc/resourceapi": 7,
	"rpc/watchapi":    7,
	"manager":         8,
	"node":            9,
	"cmd/swarmbench":  10,
	"cmd/swarmctl":    10,
	"cmd/swarmd":      10,
	"examples":        10,
}

// standing finds the listed folder that dir is or is a part of.
func standing(dir string) (folder string, floor int, ok bool) {
	for folder = dir; folder != "."; folder = path.Dir(folder) {
		if floor, ok = floors[folder]; ok {
			return folder, floor, true
		}
	}
	return "", 0, false
}

// outside reports whether dir stands outside the floors: what only tests and
// tools of this tree are built from.
func outside(dir string) bool {
	return dir == "internal" || strings.HasPrefix(dir, "internal/") || strings.HasSuffix(dir, "test")
}

// Floors checks that every package has a floor and imports lower ones only.
// Tests, internal/ and suites for an interface (exectest, storetest) may import
// what they like, and nothing that ships may import those.
func Floors(t *Tree) []Breach {
	var out []Breach
	for _, p := range t.Packages {
		if outside(p.Dir) || !p.ships() {
			continue
		}
		folder, floor, ok := standing(p.Dir)
		if !ok {
			out = append(out, Breach{p.Dir, "the package has no floor",
				"give it a floor in internal/archtest/floors.go and a line in docs/ARCHITECTURE.md"})
			continue
		}
		for _, f := range p.Files {
			if f.Test {
				continue
			}
			for _, spec := range f.Syntax.Imports {
				dir, ok := local(importPath(spec))
				if !ok {
					continue
				}
				if what, do := judge(folder, floor, dir); what != "" {
					out = append(out, Breach{t.at(spec), what, do})
				}
			}
		}
	}
	return out
}

// judge says what is wrong, if anything, when a package of folder imports dir.
func judge(folder string, floor int, dir string) (what, do string) {
	if outside(dir) {
		return fmt.Sprintf("%s imports %s, which is for tests", folder, dir),
			"what ships builds on packages that have a floor: move the piece that is needed into one"
	}
	other, otherFloor, ok := standing(dir)
	switch {
	case !ok, other == folder, otherFloor < floor:
		return "", "" // one without a floor is told of where it stands
	case otherFloor == floor:
		return fmt.Sprintf("%s imports %s, which is on its own floor %d", folder, dir, floor),
			"a package imports lower floors only: declare the small interface that is needed and let a higher floor hand it in"
	default:
		return fmt.Sprintf("%s (floor %d) imports %s (floor %d)", folder, floor, dir, otherFloor),
			"a package imports lower floors only: move what is shared down, or take it as a value"
	}
}
