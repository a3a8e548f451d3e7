package dispatcher_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"skep/api"
)

// Fault 42 of the reliability promises: of sessions that came and went nothing is left, be they
// thousands, or the million that SKEP_SESSIONS asks for.
func TestNothingIsLeftOfSessionsThatCameAndWent(t *testing.T) {
	const nodes, inARow = 100, 3 // a node that registers oftener has to wait
	sessions := 12_000
	if wanted := os.Getenv("SKEP_SESSIONS"); wanted != "" {
		var err error
		if sessions, err = strconv.Atoi(wanted); err != nil {
			t.Fatalf("SKEP_SESSIONS: %v", err)
		}
	}
	// Not parallel: what others allocate would count.
	synctest.Test(t, func(t *testing.T) {
		_, d := benchmarked(t, nodes, 0)
		synctest.Wait()
		openAndClose := func(n int) {
			for range n / nodes / inARow {
				for node := range nodes {
					conn := connect(d, fmt.Sprint("n", node))
					for range inARow {
						ctx, cancel := context.WithCancel(t.Context())
						stream, err := api.NewDispatcherClient(conn).Session(ctx, &api.SessionRequest{Description: &api.NodeDescription{Hostname: "n"}})
						if err == nil {
							_, err = stream.Recv()
						}
						cancel()
						if err != nil {
							t.Fatal(err)
						}
					}
					conn.Close()
				}
				pass(9 * time.Second)
			}
			synctest.Wait()
		}
		openAndClose(sessions / 10)
		heap, goroutines := held()
		openAndClose(sessions)
		heapAfter, goroutinesAfter := held()
		t.Logf("after %d sessions: %d KiB of heap and %d goroutines; after %d: %d KiB and %d", sessions/10, heap>>10, goroutines, sessions, heapAfter>>10, goroutinesAfter)
		if goroutinesAfter != goroutines {
			t.Errorf("%d goroutines became %d", goroutines, goroutinesAfter)
		}
		// What the runtime itself keeps is no multiple of the sessions.
		if grown := int64(heapAfter) - int64(heap); grown > int64(heap)/100+64<<10 {
			t.Errorf("%d sessions left %d bytes", sessions, grown)
		}
	})
}

// held returns what is on the heap, and how many goroutines there are.
func held() (heap uint64, goroutines int) {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, runtime.NumGoroutine()
}
