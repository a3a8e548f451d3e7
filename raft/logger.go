package raft

import (
	"context"
	"fmt"
	"log/slog"

	etcdraft "go.etcd.io/raft/v3"
)

// logger hands what the raft library says to slog, at debug level: what an operator should
// know is said by this package, in its words. What the library calls fatal is a broken
// invariant, where going on could cost data.
type logger struct{ log *slog.Logger }

var _ etcdraft.Logger = logger{}

func (l logger) say(severity, format string, v []any) {
	if !l.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	text := fmt.Sprint(v...)
	if format != "" {
		text = fmt.Sprintf(format, v...)
	}
	l.log.Debug("raft library", "severity", severity, "text", text)
}

func (l logger) Debug(v ...any)                   { l.say("debug", "", v) }
func (l logger) Debugf(format string, v ...any)   { l.say("debug", format, v) }
func (l logger) Info(v ...any)                    { l.say("info", "", v) }
func (l logger) Infof(format string, v ...any)    { l.say("info", format, v) }
func (l logger) Warning(v ...any)                 { l.say("warning", "", v) }
func (l logger) Warningf(format string, v ...any) { l.say("warning", format, v) }
func (l logger) Error(v ...any)                   { l.say("error", "", v) }
func (l logger) Errorf(format string, v ...any)   { l.say("error", format, v) }
func (l logger) Fatal(v ...any)                   { panic("raft library: " + fmt.Sprint(v...)) }
func (l logger) Fatalf(format string, v ...any)   { panic("raft library: " + fmt.Sprintf(format, v...)) }
func (l logger) Panic(v ...any)                   { panic("raft library: " + fmt.Sprint(v...)) }
func (l logger) Panicf(format string, v ...any)   { panic("raft library: " + fmt.Sprintf(format, v...)) }
