package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// hello is what tasks run: a web server on PORT that says who it is, and that
// ends with the status that is asked for: GET /exit?status=3.
func hello() {
	http.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s from %s, process %d\n", cmp.Or(os.Getenv("GREETING"), "hello"), os.Getenv("SKEP_TASK_NAME"), os.Getpid())
	})
	http.HandleFunc("GET /exit", func(_ http.ResponseWriter, r *http.Request) {
		status, err := strconv.Atoi(r.FormValue("status"))
		if err != nil {
			status = 1
		}
		os.Exit(status)
	})
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Getenv("PORT")))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := interruptible()
	defer stop()
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	fmt.Println("listening", os.Args[1:])
	_ = http.Serve(listener, nil)
	fmt.Println("ended")
}
