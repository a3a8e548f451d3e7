package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"skep/agent/exec/process"
)

func main() {
	// Every task's process has a small parent of its own: this program again.
	if process.IsParent() {
		os.Exit(process.ParentMain())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	go collectGarbage(ctx)
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
