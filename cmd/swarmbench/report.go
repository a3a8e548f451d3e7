package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// result is what one measurement found. Of the limit, Ratio says which part was
// reached (rates) or how many times it took (times, memory).
type result struct {
	Bench string `json:"bench"`
	// Params are what was asked: clients=64.
	Params string `json:"params"`
	// Value is in Unit; Detail has what else was seen.
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Detail string  `json:"detail,omitempty"`
	// Limit is the physical limit in the same unit, 0 if there is none.
	Limit float64 `json:"limit,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
	// Bar is what the project promises, in words, and Met whether it is kept.
	Bar string `json:"bar,omitempty"`
	Met bool   `json:"met,omitempty"`
	// Check says what was verified.
	Check string `json:"check"`
}

// against relates the value to a limit.
func (r result) against(limit float64) result {
	r.Limit = limit
	if limit > 0 {
		r.Ratio = r.Value / limit
	}
	return r
}

// promise says what was promised of the result and whether it is so.
func (r result) promise(bar string, met bool) result {
	r.Bar, r.Met = bar, met
	return r
}

// middle returns the result with the middle ratio, and says what the others had.
func middle(results []result) result {
	sorted := slices.SortedFunc(slices.Values(results), func(a, b result) int { return cmp.Compare(a.Ratio, b.Ratio) })
	r := sorted[len(sorted)/2]
	spread := fmt.Sprintf("%d rounds, ratios %.2f to %.2f", len(sorted), sorted[0].Ratio, sorted[len(sorted)-1].Ratio)
	r.Detail = strings.TrimPrefix(r.Detail+", "+spread, ", ")
	return r
}

func (r result) String() string {
	s := fmt.Sprintf("%-8s %-34s %10s %-10s", r.Bench, r.Params, number(r.Value), r.Unit)
	if r.Limit > 0 {
		s += fmt.Sprintf(" %6.2f × limit %s", r.Ratio, number(r.Limit))
	}
	if r.Bar != "" {
		s += map[bool]string{true: "  ✓ ", false: "  ✗ "}[r.Met] + r.Bar
	}
	if r.Detail != "" {
		s += "  (" + r.Detail + ")"
	}
	return s
}

func number(v float64) string {
	switch {
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// print writes r as JSON and for people.
func (r result) print(out, human io.Writer) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Fprintln(human, strings.TrimRight(r.String(), " "))
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

// latencies are durations of single calls.
type latencies []time.Duration

// percentile returns the duration that part p, from 0 to 1, of all are not above.
func (l latencies) percentile(p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(l))
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}

func (l latencies) String() string {
	return fmt.Sprintf("p50 %s, p99 %s", round(l.percentile(0.5)), round(l.percentile(0.99)))
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// milliseconds returns d in milliseconds.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
