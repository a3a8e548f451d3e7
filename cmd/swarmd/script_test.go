package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"skep/agent/exec/process"
	"skep/cli"
)

// The test binary plays every program of a script: swarmd, the parents of its
// tasks, swarmctl, and what the tasks run.
func TestMain(m *testing.M) {
	if process.IsParent() {
		os.Exit(process.ParentMain())
	}
	testscript.Main(m, map[string]func(){
		"swarmd":   main,
		"swarmctl": swarmctl,
		"hello":    hello,
	})
}

func swarmctl() {
	ctx, stop := interruptible()
	status := cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(status)
}

// A script reads like a session at a terminal. It has a directory of its own,
// in which swarmd's socket is where swarmctl looks first, and leaves no process
// behind: the last line of each says so.
func TestScripts(t *testing.T) {
	t.Parallel()
	var loads loads
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// HOME is what a task inherits, so it tells whose process one is.
			env.Setenv("HOME", env.WorkDir)
			// What swarmd takes from its machine should not differ from one to another.
			env.Setenv("SWARM_SOCKET", "")
			// Under the race detector every program would wait a second before it ends.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			env.Setenv("EXAMPLES", examples)
			env.Defer(func() { killAll(env.WorkDir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"until":    until,
			"exits":    exits,
			"capture":  capture,
			"signal":   signalProcess,
			"alive":    alive,
			"gone":     gone,
			"get":      get,
			"port":     port,
			"edit":     edit,
			"fill":     fill,
			"damage":   damage,
			"lockkey":  lockKey,
			"powercut": powercut,
			"deserted": deserted,
			"load":     loads.command,
		},
	})
}
