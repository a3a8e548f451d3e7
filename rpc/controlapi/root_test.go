package controlapi_test

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/ca"
	"skep/internal/cfssltest"
	"skep/rpc/controlapi"
	"skep/store"
)

// Each file is a story of a swarm whose root is called A. B and C are other roots.
//
//	update ARGS     UpdateCluster with what the cluster's spec says, and
//	                  cert=ROOT  the certificate of a root to sign with
//	                  key=ROOT   the key of a root
//	                  force      the next number of force_rotate
//	                  external=(CA,…)  what external CAs there are: ROOT is one that signs
//	                                   with that root and says so, own is A's without a
//	                                   certificate, gone:ROOT cannot be reached,
//	                  plain has no TLS, rubbish a certificate that is none; none is none
//	                prints what the cluster's root is then, or the error
//
// Of a root that the swarm made itself it prints "new".
func TestTheRootThatAnUpdateAsksFor(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/root", func(t *testing.T, path string) {
		r := newRoots(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "update" {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			c, _ := r.store.Read().Clusters.Get("c")
			spec := proto.CloneOf(c.GetSpec())
			for _, arg := range d.CmdArgs {
				switch arg.Key {
				case "cert":
					spec.CaConfig.SigningCaCert = r.cert(arg.Vals[0])
				case "key":
					spec.CaConfig.SigningCaKey = r.keys[arg.Vals[0]]
				case "force":
					spec.CaConfig.ForceRotate++
				case "external":
					spec.CaConfig.ExternalCas = r.external(t, arg.Vals)
				default:
					d.Fatalf(t, "unknown argument %q", arg.Key)
				}
			}
			_, err := r.server.UpdateCluster(t.Context(), &api.UpdateClusterRequest{ClusterId: "c", ClusterVersion: c.GetMeta().GetVersion(), Spec: spec})
			if err != nil {
				if now, _ := r.store.Read().Clusters.Get("c"); now != c {
					t.Errorf("%s: the update is refused and has changed the cluster", d.Pos)
				}
				return r.words(fmt.Sprintf("%s: %v", kindName(err), err))
			}
			return r.show(t)
		})
	})
}

// roots are a swarm and roots with names.
type roots struct {
	store  *store.Store
	server *controlapi.Server
	roots  map[string]*ca.Root
	keys   map[string][]byte
	urls   map[string]string // of external CAs
}

func newRoots(t *testing.T) *roots {
	t.Helper()
	r := &roots{roots: map[string]*ca.Root{}, keys: map[string][]byte{}, urls: map[string]string{}}
	root, key, cert, err := ca.Bootstrap("c", "manager", now(), ca.DefaultLifetime)
	if err != nil {
		t.Fatal(err)
	}
	r.roots["A"], r.keys["A"] = root, key
	for _, name := range []string{"B", "C"} {
		if r.roots[name], r.keys[name], err = ca.NewRoot(now()); err != nil {
			t.Fatal(err)
		}
	}
	object, err := ca.NewRootCA(root, key)
	if err != nil {
		t.Fatal(err)
	}
	r.store = storeOf(t, []store.Object{&api.Cluster{
		Id: "c", RootCa: object, Spec: &api.ClusterSpec{Annotations: &api.Annotations{Name: "default"}, CaConfig: &api.CAConfig{}},
	}})
	r.server = controlapi.New(controlapi.Config{
		Store: r.store, Now: now,
		NewJoinToken: func([]byte) (string, error) { return "token", nil },
		External:     &ca.External{Identity: ca.NewIdentity(root, cert, now)},
	})
	return r
}

func (r *roots) cert(name string) []byte {
	if root, ok := r.roots[name]; ok {
		return root.PEM()
	}
	return []byte(name)
}

// external returns external CAs by their names.
func (r *roots) external(t *testing.T, names []string) []*api.ExternalCA {
	t.Helper()
	var cas []*api.ExternalCA
	for _, name := range names {
		rest, gone := strings.CutPrefix(name, "gone:")
		c := &api.ExternalCA{}
		switch {
		case name == "none":
			continue
		case name == "plain":
			c.Url = "http://ca.example.com/sign"
		case name == "rubbish":
			c.Url, c.CaCert = "https://ca.example.com/sign", []byte("rubbish")
		case rest == "own":
			rest = "A"
		default:
			c.CaCert = r.cert(rest)
		}
		if c.Url == "" {
			if _, runs := r.urls[name]; !runs {
				r.urls[name] = r.start(t, rest, gone)
			}
			c.Url = r.urls[name]
		}
		cas = append(cas, c)
	}
	return cas
}

func (r *roots) start(t *testing.T, root string, gone bool) string {
	t.Helper()
	if gone {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "https://" + l.Addr().String() + "/sign"
	}
	return cfssltest.Start(t, cfssltest.Config{Root: r.roots[root], Key: r.keys[root], Clients: []*ca.Root{r.roots["A"]}, Now: now}).URL
}

// words returns text with the names of external CAs instead of their addresses.
func (r *roots) words(text string) string {
	for name, url := range r.urls {
		text = strings.ReplaceAll(text, url, "https://"+name)
	}
	return regexp.MustCompile(`dial tcp [0-9.]+:[0-9]+`).ReplaceAllString(text, "dial")
}

// name returns what a certificate, PEM, is called.
func (r *roots) name(cert []byte) string {
	for name, root := range r.roots {
		if ca.SameCertificate(root.PEM(), cert) {
			return name
		}
	}
	return "new"
}

// show prints the root of the cluster, and checks what always holds of it.
func (r *roots) show(t *testing.T) string {
	t.Helper()
	c, _ := r.store.Read().Clusters.Get("c")
	root := c.GetRootCa()
	if len(c.GetSpec().GetCaConfig().GetSigningCaCert())+len(c.GetSpec().GetCaConfig().GetSigningCaKey()) > 0 {
		t.Error("the spec keeps the signing certificate")
	}
	if root.GetCaCertHash() != ca.HashOf(root.GetCaCert()) {
		t.Error("the hash is another certificate's")
	}
	out := "root " + r.with(t, root.GetCaCert(), root.GetCaKey())
	if rotation := root.GetRootRotation(); rotation != nil {
		out += ", rotates to " + r.with(t, rotation.GetCaCert(), rotation.GetCaKey())
		next := r.parse(t, rotation.GetCaCert())
		if err := ca.CheckIntermediate(rotation.GetCrossSignedCaCert(), r.parse(t, root.GetCaCert()), next, now()); err != nil {
			t.Error(err)
		}
	}
	if forced := root.GetLastForcedRotation(); forced > 0 {
		out += fmt.Sprintf(", forced %d", forced)
	}
	return out
}

func (r *roots) with(t *testing.T, cert, key []byte) string {
	t.Helper()
	if len(key) == 0 {
		return r.name(cert) + " without a key"
	}
	if _, err := ca.NewSigner(r.parse(t, cert), key); err != nil {
		t.Error(err)
	}
	return r.name(cert)
}

func (r *roots) parse(t *testing.T, cert []byte) *ca.Root {
	t.Helper()
	root, err := ca.ParseRoot(cert, now())
	if err != nil {
		t.Fatal(err)
	}
	return root
}
