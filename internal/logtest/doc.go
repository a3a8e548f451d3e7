// Package logtest holds what a program logs, for tests that read it while the program
// writes. It decides nothing, keeps everything in memory, and may be used from any goroutine.
package logtest
