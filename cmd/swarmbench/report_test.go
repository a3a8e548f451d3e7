package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

func TestPercentilesAreThoseOfAllCalls(t *testing.T) {
	t.Parallel()
	var l latencies
	for i := 100; i > 0; i-- {
		l = append(l, time.Duration(i)*time.Millisecond)
	}
	for p, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 51 * time.Millisecond, 0.99: 100 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := l.percentile(p); got != want {
			t.Errorf("p%g: got %s, want %s", 100*p, got, want)
		}
	}
	if got := (latencies)(nil).percentile(0.5); got != 0 {
		t.Errorf("no calls: got %s", got)
	}
}

func TestAResultIsOneLineOfJSONAndOneForPeople(t *testing.T) {
	t.Parallel()
	r := result{Bench: "writes", Params: "clients=64", Value: 9000, Unit: "writes/s", Check: "all listed"}.
		against(18_000).promise("≥ 0.3 × empty calls", true)
	var out, human strings.Builder
	if err := r.print(&out, &human); err != nil {
		t.Fatal(err)
	}
	var back result
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back != r {
		t.Errorf("JSON %q reads back as %+v, %v; want %+v", out.String(), back, err, r)
	}
	for _, want := range []string{"writes", "clients=64", "9000", "0.50 × limit 18000", "✓ ≥ 0.3 × empty calls"} {
		if !strings.Contains(human.String(), want) {
			t.Errorf("%q lacks %q", human.String(), want)
		}
	}
	if n := strings.Count(human.String(), "\n") + strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("got %d lines, want one each", n)
	}
}

func TestTheMiddleOfSeveralRoundsCounts(t *testing.T) {
	t.Parallel()
	got := middle([]result{{Value: 3, Ratio: 0.3}, {Value: 9, Ratio: 0.9, Detail: "p50"}, {Value: 12, Ratio: 1.2}})
	if got.Value != 9 || got.Detail != "p50, 3 rounds, ratios 0.30 to 1.20" {
		t.Errorf("got %+v", got)
	}
}

func TestTheUsageOfAProcessIsReadFromTheSystem(t *testing.T) {
	t.Parallel()
	u, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.rss < megabyte {
		t.Errorf("this process has %d bytes of memory", u.rss)
	}
	later := usage{cpu: u.cpu + time.Second, at: u.at.Add(4 * time.Second)}
	if got := coreShare(u, later); got != 0.25 {
		t.Errorf("1 s of CPU in 4 s: got %g of a core", got)
	}
}
