package archtest

import (
	"fmt"
	"go/ast"
)

// serverMaker is the folder in which the only gRPC server is made.
const serverMaker = "rpc"

// bareServers may make a gRPC server without rpc's interceptors.
var bareServers = map[string]string{
	"cmd/swarmbench": "measures a server that does nothing, as the limit to compare with",
}

// Servers checks that what ships makes a gRPC server in one place: there stand
// the interceptors that identify, authorize and route every call.
func Servers(t *Tree) []Breach {
	const do = "rpc.NewServer is the only place that makes a gRPC server, so that no method goes past identity, roles and routes: register with it"
	var out []Breach
	var there []string
	maker := false
	for _, p := range t.Packages {
		maker = maker || p.Dir == serverMaker && p.ships()
		if outside(p.Dir) || bareServers[p.Dir] != "" {
			continue
		}
		for _, f := range p.written() {
			grpc := f.nameOf("google.golang.org/grpc")
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				switch {
				case !calls(n, grpc, "NewServer"):
				case p.Dir == serverMaker:
					there = append(there, t.at(n))
				default:
					out = append(out, Breach{t.at(n), "calls grpc.NewServer", do})
				}
				return true
			})
		}
	}
	if maker && len(there) != 1 {
		out = append(out, Breach{serverMaker, fmt.Sprintf("%d calls of grpc.NewServer %v, want 1", len(there), there), do})
	}
	return out
}
