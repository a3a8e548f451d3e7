package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	greeting := flag.String("greeting", "Hello from Skep", "what to say")
	name := flag.String("name", cmp.Or(os.Getenv("SKEP_TASK_NAME"), "hello"), "who says it")
	flag.Parse()
	if err := serve(*greeting, *name, cmp.Or(os.Getenv("PORT"), "8080")); err != nil {
		slog.Error("hello ends", "error", err)
		os.Exit(1)
	}
}

func serve(greeting, name, port string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s, I am %s, process %d.\n", greeting, name, os.Getpid())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	fmt.Printf("%s listens on %s\n", name, listener.Addr())
	drained := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(drained)
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			slog.Warn("open requests are cut off", "error", err)
		}
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-drained // Serve returns when the shutdown begins, not when it is over
	fmt.Println(name, "ends")
	return nil
}
