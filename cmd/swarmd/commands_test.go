package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"skep/api"
	"skep/client"
)

// pause is how long a script waits before it looks again.
const pause = 20 * time.Millisecond

// poll calls look until it returns "" or the time is up; then the script fails
// with what look said last.
func poll(ts *testscript.TestScript, limit time.Duration, look func() string) {
	deadline := time.Now().Add(limit)
	for {
		missing := look()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("after %s: %s", limit, missing)
		}
		<-time.After(pause)
	}
}

// until TIME [!] stdout|stderr [-count=N] PATTERN -- PROGRAM ARG… runs a program
// again and again until its output is as it should be.
func until(ts *testscript.TestScript, neg bool, args []string) {
	limit, want, command := parseUntil(ts, neg, args)
	var out, errs bytes.Buffer
	poll(ts, limit, func() string {
		out.Reset()
		errs.Reset()
		// Not ts.Exec: the log of the script would hold every attempt.
		c := exec.Command(lookPath(ts, command[0]), command[1:]...)
		c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), &out, &errs
		for _, name := range []string{"PATH", "HOME", "WORK", "TMPDIR", "GORACE"} {
			c.Env = append(c.Env, name+"="+ts.Getenv(name))
		}
		err := c.Run()
		from := out.Bytes()
		if want.stream == "stderr" {
			from = errs.Bytes()
		}
		got := len(want.pattern.FindAll(from, -1))
		switch {
		case want.absent && got == 0, !want.absent && want.count < 0 && got > 0, !want.absent && want.count == got:
			return ""
		}
		return fmt.Sprintf("%s of %s (%v) has %d matches of %q:\n%s%s", want.stream, strings.Join(command, " "), err, got, want.pattern, out.Bytes(), errs.Bytes())
	})
	ts.Check(errors.Join(write(ts.Stdout(), &out), write(ts.Stderr(), &errs)))
}

func write(to io.Writer, from *bytes.Buffer) error {
	_, err := from.WriteTo(to)
	return err
}

// lookPath finds a program in the script's PATH.
func lookPath(ts *testscript.TestScript, program string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	ts.Fatalf("no program %s", program)
	return ""
}

type expectation struct {
	stream  string
	pattern *regexp.Regexp
	count   int // -1: at least one
	absent  bool
}

func parseUntil(ts *testscript.TestScript, neg bool, args []string) (time.Duration, expectation, []string) {
	usage := func() { ts.Fatalf("usage: until TIME [!] stdout|stderr [-count=N] PATTERN -- PROGRAM ARG…") }
	dash := -1
	for i, arg := range args {
		if arg == "--" {
			dash = i
			break
		}
	}
	if neg || dash < 3 || dash == len(args)-1 {
		usage()
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	want, command := expectation{count: -1}, args[dash+1:]
	args = args[1:dash]
	if args[0] == "!" {
		want.absent, args = true, args[1:]
	}
	want.stream, args = args[0], args[1:]
	if count, ok := strings.CutPrefix(args[0], "-count="); ok {
		want.count, err = strconv.Atoi(count)
		ts.Check(err)
		args = args[1:]
	}
	if len(args) != 1 || want.stream != "stdout" && want.stream != "stderr" {
		usage()
	}
	want.pattern, err = regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	return limit, want, command
}

// exits STATUS PROGRAM ARG… runs a program that ends with that status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// capture NAME PATTERN puts what the group in PATTERN matches in the last
// standard output, every time that it does, into the environment.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	var found []string
	for _, m := range pattern.FindAllStringSubmatch(ts.ReadFile("stdout"), -1) {
		found = append(found, m[1])
	}
	if len(found) == 0 {
		ts.Fatalf("no match of %q in the last output", args[1])
	}
	ts.Setenv(args[0], strings.Join(found, " "))
}

// signal NAME PID|PROGRAM sends a signal to a process, or to the only one of that
// program that runs in the background.
func signalProcess(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME PID|PROGRAM")
	}
	number := unix.SignalNum("SIG" + args[0])
	if number == 0 {
		ts.Fatalf("no signal %s", args[0])
	}
	pid, err := strconv.Atoi(args[1])
	if err != nil {
		pid = background(ts, args[1])
	}
	ts.Check(syscall.Kill(pid, number))
}

func background(ts *testscript.TestScript, program string) int {
	var pids []int
	for _, c := range ts.BackgroundCmds() {
		if filepath.Base(c.Path) == program {
			pids = append(pids, c.Process.Pid)
		}
	}
	if len(pids) != 1 {
		ts.Fatalf("%d processes of %s run in the background, need one", len(pids), program)
	}
	return pids[0]
}

// alive PID… says whether processes run at this moment.
func alive(ts *testscript.TestScript, neg bool, args []string) {
	for _, pid := range pids(ts, args) {
		if r := runs(pid); r == neg {
			ts.Fatalf("process %d runs: %t, want %t", pid, r, !neg)
		}
	}
}

// gone PID… waits until processes have ended.
func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! gone")
	}
	for _, pid := range pids(ts, args) {
		poll(ts, 15*time.Second, func() string {
			if runs(pid) {
				return fmt.Sprintf("process %d still runs", pid)
			}
			return ""
		})
	}
}

// get URL prints what a GET answers.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: get URL")
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(args[0])
	if err == nil {
		defer answer.Body.Close()
		_, err = io.Copy(ts.Stdout(), answer.Body)
	}
	if failed := err != nil; failed != neg {
		ts.Fatalf("get %s: %v", args[0], err)
	}
}

// port NAME puts a TCP port into the environment that is free now.
func port(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, number, err := net.SplitHostPort(l.Addr().String())
	ts.Check(errors.Join(err, l.Close()))
	ts.Setenv(args[0], number)
}

// edit FILE OLD NEW replaces a pattern in a file.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE PATTERN NEW")
	}
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	if !pattern.Match(data) {
		ts.Fatalf("no match of %q in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(file, pattern.ReplaceAll(data, []byte(args[2])), 0o600))
}

// damage FILE OFFSET turns over the bits of a byte.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: damage FILE OFFSET")
	}
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	data[offset] = ^data[offset]
	ts.Check(os.WriteFile(file, data, 0o600))
}

// powercut DIR kills, at once, all that has files below a state directory open:
// what a machine without power does to swarmd and its tasks.
func powercut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: powercut DIR")
	}
	for _, p := range running(func(pid int) bool { return holds(pid, ts.MkAbs(args[0])) }) {
		// One may end with another that was killed.
		if err := syscall.Kill(p.pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			ts.Check(err)
		}
	}
}

// deserted waits until the script has no processes any more.
func deserted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: deserted")
	}
	poll(ts, 10*time.Second, func() string {
		var left []string
		for _, p := range processesOf(ts.Getenv("WORK")) {
			left = append(left, fmt.Sprintf("%d %s", p.pid, p.command))
		}
		if len(left) > 0 {
			return "these run on:\n" + strings.Join(left, "\n")
		}
		return ""
	})
}

// pids are the numbers in args, of which each may hold several.
func pids(ts *testscript.TestScript, args []string) []int {
	var out []int
	for _, field := range strings.Fields(strings.Join(args, " ")) {
		pid, err := strconv.Atoi(field)
		ts.Check(err)
		out = append(out, pid)
	}
	if len(out) == 0 {
		ts.Fatalf("no process is named")
	}
	return out
}

// fill SOCKET COUNT BYTES makes as many configs as large as that, several at a time.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: fill SOCKET COUNT BYTES")
	}
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	size, err := strconv.Atoi(args[2])
	ts.Check(err)
	conn, err := client.DialSocket(ts.MkAbs(args[0]), client.Retry())
	ts.Check(err)
	defer conn.Close()
	var group errgroup.Group
	group.SetLimit(4)
	for i := range count {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
			defer cancel()
			spec := &api.ConfigSpec{Annotations: &api.Annotations{Name: fmt.Sprint("fill", i)}, Data: bytes.Repeat([]byte{byte(i)}, size)}
			_, err := api.NewControlClient(conn).CreateConfig(ctx, &api.CreateConfigRequest{Spec: spec})
			return err
		})
	}
	ts.Check(group.Wait())
}
