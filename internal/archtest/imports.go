package archtest

import (
	"fmt"
	"strings"
)

// forbidden modules, and what stands in for them here.
var forbidden = map[string]string{
	"github.com/gogo/protobuf":    "use google.golang.org/protobuf",
	"github.com/golang/protobuf":  "use google.golang.org/protobuf",
	"github.com/cloudflare/cfssl": "use crypto/x509 through package ca",
	"github.com/spf13/viper":      "flags are the configuration; use spf13/pflag through cobra",
	"github.com/sirupsen/logrus":  "use log/slog",
	"github.com/pkg/errors":       "use fmt.Errorf with %w, or model.Errorf for one with a kind",
	"github.com/docker/docker":    "use github.com/moby/moby/client and api",
	"github.com/moby/swarmkit":    "the reference is for test/interop, which is a module of its own",
	"github.com/docker/swarmkit":  "the reference is for test/interop, which is a module of its own",
}

// Imports checks that nothing, tests included, imports a forbidden module.
func Imports(t *Tree) []Breach {
	var out []Breach
	for _, p := range t.Packages {
		for _, f := range p.Files {
			for _, spec := range f.Syntax.Imports {
				imported := importPath(spec)
				for prefix, instead := range forbidden {
					if imported == prefix || strings.HasPrefix(imported, prefix+"/") {
						out = append(out, Breach{t.at(spec), fmt.Sprintf("imports %s", imported),
							"this module is kept out of the tree: " + instead})
					}
				}
			}
		}
	}
	return out
}
