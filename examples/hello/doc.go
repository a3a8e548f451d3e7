// Command hello is a small web server, the example that "make run" deploys. It
// listens on the port that its node hands it in PORT, answers / with a greeting
// and the task that said it, /healthz with 200, and ends cleanly on SIGTERM.
package main
