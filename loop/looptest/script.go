package looptest

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"skep/loop"
)

// Run runs the decision tests in testdata/*.txt, a subtest for each file. Commands:
//
//	cluster   a new cluster; draws its input and settles
//	change    draws its input and settles
//	wait 5s   moves the clock and settles
//
// Each answers with Text.
func Run(t *testing.T, loops func() []loop.Any) {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no decisions in testdata (%v)", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			runFile(t, path, loops)
		})
	}
}

func runFile(t *testing.T, path string, loops func() []loop.Any) {
	t.Helper()
	var c *Cluster
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "cluster":
			c = New(loops()...)
			c.Draw(t, d.Input)
		case "change":
			c.Draw(t, d.Input)
		case "wait":
			by, err := time.ParseDuration(d.CmdArgs[0].Key)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			c.Wait(by)
		default:
			d.Fatalf(t, "there is no command %q", d.Cmd)
		}
		c.Settle(t)
		return c.Text()
	})
}
