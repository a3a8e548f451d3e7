package node_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/api"
	"skep/api/skep"
	"skep/ca"
	"skep/client"
	"skep/internal/logtest"
	"skep/node"
	"skep/vfs"
)

// machine is what a node needs of its machine, all in one directory.
func machine(t *testing.T) node.Config {
	t.Helper()
	dir := t.TempDir()
	return node.Config{
		StateDir: filepath.Join(dir, "state"),
		Socket:   filepath.Join(dir, "s"),
		Listen:   "127.0.0.1:0",
		Executor: "none",
		Hostname: "here",
	}
}

// running is a node that runs, and leads.
type running struct {
	local skep.LocalClient
	stop  func() error
}

// start runs a node until stop is called or the test ends.
func start(t *testing.T, cfg node.Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, cfg) }()
	conn, err := client.DialSocket(cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{local: skep.NewLocalClient(conn)}
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		_ = conn.Close()
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the node ends with %v", err)
		}
	})
	deadline := time.After(20 * time.Second)
	for {
		if is, err := r.local.Status(t.Context(), &skep.StatusRequest{}); err == nil && is.Leader {
			return r
		}
		select {
		case err := <-ended:
			ended <- err
			stopped = true
			t.Fatalf("the node ends before it answers: %v", err)
		case <-deadline:
			t.Fatal("the node does not answer")
		case <-time.After(5 * time.Millisecond):
			conn.Connect()
			conn.ResetConnectBackoff()
		}
	}
}

// refused runs a node that cannot start, and returns why.
func refused(t *testing.T, cfg node.Config) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := node.Run(ctx, cfg)
	if err == nil {
		t.Fatal("the node runs")
	}
	return err.Error()
}

func TestANodeIsTheSameAfterEachStart(t *testing.T) {
	t.Parallel()
	cfg := machine(t)
	var id, cluster string
	for range 3 {
		r := start(t, cfg)
		is, err := r.local.Status(t.Context(), &skep.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !is.Manager || !is.Leader || len(is.Managers) != 1 {
			t.Errorf("it says %v", is)
		}
		if id != "" && (is.NodeId != id || is.ClusterId != cluster) {
			t.Errorf("it is node %s of cluster %s, and was %s of %s", is.NodeId, is.ClusterId, id, cluster)
		}
		id, cluster = is.NodeId, is.ClusterId
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheRootsKeyLeavesTheDiskWhenTheSwarmHoldsIt(t *testing.T) {
	t.Parallel()
	cfg := machine(t)
	start(t, cfg)
	key := filepath.Join(cfg.StateDir, "certificates", "swarm-root-ca.key")
	for deadline := time.After(20 * time.Second); ; {
		if _, err := os.Stat(key); os.IsNotExist(err) {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("%s is still there", key)
		}
	}
}

func TestAClockThatDoesNotFitTheCertificateIsNamed(t *testing.T) {
	t.Parallel()
	cfg := machine(t)
	if err := start(t, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	before := contents(t, cfg.StateDir)
	for _, c := range []struct {
		why   string
		shift time.Duration
		want  []string
	}{
		{"it is a year behind", -365 * 24 * time.Hour, []string{"not valid", "clock"}},
		{"it is ten years behind", -10 * 365 * 24 * time.Hour, []string{"not valid", "clock"}},
	} {
		t.Run(c.why, func(t *testing.T) {
			cfg := cfg
			cfg.Now = func() time.Time { return time.Now().Add(c.shift) }
			got := refused(t, cfg)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("it says %q, without %q", got, want)
				}
			}
			if after := contents(t, cfg.StateDir); after != before {
				t.Errorf("the state directory has changed:\n%s\nwas\n%s", after, before)
			}
		})
	}
	if err := start(t, cfg).stop(); err != nil {
		t.Errorf("with the right clock: %v", err)
	}
}

// Nobody else could give it one: its own log says that it is a manager. The clock may
// be wrong as well, so it says so.
func TestAManagerThatIsAloneStartsWhenItsCertificateExpiredWhileItWasDown(t *testing.T) {
	t.Parallel()
	cfg := machine(t)
	if err := start(t, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	var log logtest.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	cfg.Now = func() time.Time { return time.Now().Add(365 * 24 * time.Hour) }
	start(t, cfg)
	for deadline := time.After(20 * time.Second); ; {
		root, cert, err := ca.NewFiles(vfs.OS(), filepath.Join(cfg.StateDir, "certificates")).Load(cfg.Now())
		if err == nil && cert.Valid(cfg.Now()) == nil {
			if root == nil || cert.Role != api.NodeRole_MANAGER || cert.NotAfter.Before(cfg.Now().Add(80*24*time.Hour)) {
				t.Errorf("it has a certificate of a %s until %v", cert.Role, cert.NotAfter)
			}
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("it has no new certificate:\n%s", log.String())
		}
	}
	for _, want := range []string{"expired at", "the clock of this machine says"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}

// A power cut may come at any moment of the first start.
func TestAFoundingThatWasCutOffIsFinishedByTheNextStart(t *testing.T) {
	t.Parallel()
	founded := machine(t)
	if err := start(t, founded).stop(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why  string
		lose []string
	}{
		{"before the certificate", []string{"certificates/swarm-node.crt", "certificates/swarm-node.key", "certificates/swarm-root-ca.crt", "raft", "worker"}},
		{"before anything", []string{"state.json", "certificates", "raft", "worker"}},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			cfg := machine(t)
			if err := os.CopyFS(cfg.StateDir, os.DirFS(founded.StateDir)); err != nil {
				t.Fatal(err)
			}
			for _, file := range c.lose {
				if err := os.RemoveAll(filepath.Join(cfg.StateDir, file)); err != nil {
					t.Fatal(err)
				}
			}
			if err := start(t, cfg).stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAStateDirectoryWithoutItsCertificatesIsLeftAlone(t *testing.T) {
	t.Parallel()
	cfg := machine(t)
	if err := start(t, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	certificates := filepath.Join(cfg.StateDir, "certificates")
	if err := os.RemoveAll(certificates); err != nil {
		t.Fatal(err)
	}
	before := contents(t, cfg.StateDir)
	if got := refused(t, cfg); !strings.Contains(got, certificates+" is missing") || !strings.Contains(got, "--state-dir") {
		t.Errorf("it says %q", got)
	}
	if after := contents(t, cfg.StateDir); after != before {
		t.Errorf("the state directory has changed:\n%s\nwas\n%s", after, before)
	}
}

func TestWhatCannotWorkIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why    string
		change func(*node.Config)
		want   string
	}{
		{"an executor that is none", func(c *node.Config) { c.Executor = "podman" }, `--executor "podman": choose`},
		{"an executor to come", func(c *node.Config) { c.Executor = "docker" }, "--executor docker is not in this version yet"},
		{"no address to listen on", func(c *node.Config) { c.Listen = "here" }, `--listen-remote-api "here" is not an address: write it HOST:PORT`},
		{"no address to join", func(c *node.Config) { c.JoinAddr = "there" }, `--join-addr "there" is not an address: write it HOST:PORT`},
		{"an address that is every address", func(c *node.Config) { c.Advertise = "0.0.0.0" }, "--advertise-remote-api 0.0.0.0: no machine can connect to that"},
		{"the same of IPv6", func(c *node.Config) { c.Advertise = "[::]:4242" }, "--advertise-remote-api [::]:4242: no machine can connect to that"},
		{"an address without a host", func(c *node.Config) { c.Advertise = ":4242" }, "has no host"},
		{"an address with a scheme", func(c *node.Config) { c.Advertise = "tcp://a:1" }, "is not an address"},
		{"an address without a port", func(c *node.Config) { c.Advertise = "a:0" }, "port 0 is none"},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			cfg := machine(t)
			c.change(&cfg)
			if got := refused(t, cfg); !strings.Contains(got, c.want) {
				t.Errorf("it says %q, want %q", got, c.want)
			}
			if _, err := os.Stat(cfg.StateDir); !os.IsNotExist(err) {
				t.Errorf("it made a state directory: %v", err)
			}
		})
	}
}

// contents lists the files below dir with a sum of what is in them.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
