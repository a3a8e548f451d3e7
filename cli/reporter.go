package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// silence is how long progress that is not on a terminal may say nothing.
	silence  = 30 * time.Second
	barWidth = 30
)

// reporter shows progress: one line that is written over on a terminal; elsewhere
// a line with a time for every change, and for every half minute without one.
type reporter struct {
	out  io.Writer
	name string
	live bool

	mu    sync.Mutex
	shown string
	again *time.Timer
}

func newReporter(out io.Writer, name string) *reporter {
	return &reporter{out: out, name: name, live: terminal(out)}
}

// shown is how far something is, in words and, if they are counted, in parts.
type shown interface {
	fmt.Stringer
	// parts returns how many parts are done of how many; of 0, there is nothing to count.
	parts() (done, all int)
}

func (r *reporter) report(p shown) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := p.String()
	if text == r.shown {
		return
	}
	r.shown = text
	if r.live {
		line := []rune(r.name + bar(p.parts()) + " " + text)
		// A line that is too long would wrap, and what is on a wrapped line stays.
		fmt.Fprintf(r.out, "\r\x1b[K%s", string(line[:min(len(line), width(r.out)-1)]))
		return
	}
	r.print()
}

// print writes a line and comes back when there was silence for long. r.mu is held.
func (r *reporter) print() {
	fmt.Fprintf(r.out, "%s %s: %s\n", time.Now().Format(time.RFC3339), r.name, r.shown)
	if r.again != nil {
		r.again.Stop()
	}
	r.again = time.AfterFunc(silence, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.again != nil {
			r.print()
		}
	})
}

// end finishes the report: nothing is written after it.
func (r *reporter) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again != nil {
		r.again.Stop()
		r.again = nil
	}
	if r.live && r.shown != "" {
		fmt.Fprintln(r.out)
	}
}

func bar(done, all int) string {
	if all <= 0 {
		return ""
	}
	full := min(barWidth*done/all, barWidth)
	return " [" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
}

// width is how many columns the terminal has.
func width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	const usual = 80
	return usual
}
