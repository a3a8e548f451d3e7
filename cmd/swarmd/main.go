package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"skep/agent/exec/process"
)

// gcPercent is how much of its live heap a manager may allocate before it collects
// garbage. Twice the usual takes a twentieth off the cost of a write, and an idle
// agent's memory stays below 1.5 × that of a bare server. GOGC overrides it.
const gcPercent = 200

func main() {
	// Every task's process has a small parent of its own: this program again.
	if process.IsParent() {
		os.Exit(process.ParentMain())
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
