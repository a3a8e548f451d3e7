package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// file is what stat says of one place.
type file struct {
	mode fs.FileMode
	uid  int
}

func (f file) Name() string       { return "" }
func (f file) Size() int64        { return 0 }
func (f file) Mode() fs.FileMode  { return f.mode }
func (f file) ModTime() time.Time { return time.Time{} }
func (f file) IsDir() bool        { return false }
func (f file) Sys() any           { return &syscall.Stat_t{Uid: uint32(f.uid)} }

func TestTheSocketIsLookedForInOrder(t *testing.T) {
	t.Parallel()
	mine := file{fs.ModeSocket, os.Getuid()}
	foreign := file{fs.ModeSocket, os.Getuid() + 1}
	for _, c := range []struct {
		why, flag, env string
		files          map[string]file
		want           string // "!" and a part of the error
	}{
		{why: "the flag comes first", flag: "a", env: "b", want: "a"},
		{why: "then the environment", env: "b", files: map[string]file{localSocket: mine}, want: "b"},
		{why: "then the working directory", files: map[string]file{localSocket: mine, systemSocket: foreign}, want: localSocket},
		{why: "unless that socket is somebody else's", files: map[string]file{localSocket: foreign, systemSocket: foreign}, want: systemSocket},
		{why: "a file is no socket", files: map[string]file{localSocket: {0, os.Getuid()}}, want: "!" + localSocket + " (not a socket), " + systemSocket + " (not there)"},
		{why: "nothing is there", want: "!Start one with 'make run'"},
	} {
		got, err := findSocket(c.flag, c.env, func(path string) (fs.FileInfo, error) {
			if f, ok := c.files[path]; ok {
				return f, nil
			}
			return nil, fs.ErrNotExist
		})
		if part, ok := strings.CutPrefix(c.want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), part) || ExitStatus(err) != ExitUnavailable {
				t.Errorf("%s: got %q, %v; want an error with %q and exit status %d", c.why, got, err, part, ExitUnavailable)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.why, got, err, c.want)
		}
	}
}

func TestExitStatusSaysHowACommandEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("wrong usage"), 1},
		{status.Error(codes.InvalidArgument, "bad"), 1},
		{status.Error(codes.PermissionDenied, "no"), 1},
		{exitf(ExitFailed, "it failed"), 3},
		{fmt.Errorf("wrapped: %w", exitf(ExitFailed, "it failed")), 3},
		{context.DeadlineExceeded, 4},
		{status.Error(codes.DeadlineExceeded, "late"), 4},
		{status.Error(codes.NotFound, "gone"), 5},
		{status.Error(codes.Aborted, "update out of sequence"), 6},
		{status.Error(codes.Unavailable, "no leader"), 7},
		{context.Canceled, 130},
	} {
		if got := ExitStatus(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}
