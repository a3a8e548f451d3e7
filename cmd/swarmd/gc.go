package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much may be allocated before garbage is collected. A small manager may allocate
// twice its live heap, twice the usual, which takes a twentieth off the cost of a write; an
// idle agent's memory stays below 1.5 × that of a bare server. With 100,000 tasks that
// would be most of a gigabyte, of which nobody knows when it is needed: garbage is bounded,
// but for what collecting without end would cost.
const (
	gcPercent = 200
	gcBytes   = 128 << 20
	gcLeast   = 30
)

// gcFor returns the percentage for a live heap.
func gcFor(live uint64) int {
	return int(max(gcLeast, min(gcPercent, 100*gcBytes/max(live, 1))))
}

// collectGarbage keeps the collector's percentage right until ctx ends. GOGC overrides it.
func collectGarbage(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for now := gcPercent; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(live)
		// Setting it stops the world for a moment.
		if want := gcFor(live[0].Value.Uint64()); want < now*9/10 || want > now*11/10 {
			now = want
			debug.SetGCPercent(now)
		}
	}
}
