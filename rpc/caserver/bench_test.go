package caserver

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"skep/api"
	"skep/client"
	"skep/store"
)

// disk is a log that is durable as raft's is, without its protocol: what gathers
// while one write is made durable shares the next.
type disk struct {
	store *store.Store
	file  *os.File
	wake  chan struct{}
	done  chan struct{}

	mu    sync.Mutex
	queue [][]byte
	syncs int
	spent time.Duration // in them
}

func newDisk(b *testing.B, s *store.Store) *disk {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	d := &disk{store: s, file: file, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go d.run(b)
	b.Cleanup(func() {
		close(d.wake)
		<-d.done
		_ = file.Close()
	})
	return d
}

func (d *disk) Propose(data [][]byte) {
	d.mu.Lock()
	d.queue = append(d.queue, data...)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *disk) run(b *testing.B) {
	defer close(d.done)
	var index uint64
	for range d.wake {
		d.mu.Lock()
		batch := d.queue
		d.queue = nil
		d.syncs++
		d.mu.Unlock()
		for _, entry := range batch {
			if _, err := d.file.Write(entry); err != nil {
				b.Error(err)
			}
		}
		began := time.Now()
		if err := d.file.Sync(); err != nil {
			b.Error(err)
		}
		d.mu.Lock()
		d.spent += time.Since(began)
		d.mu.Unlock()
		for _, entry := range batch {
			index++
			if err := d.store.Apply(store.Entry{Index: index, Term: 1, Data: entry}); err != nil {
				b.Error(err)
			}
		}
	}
}

// BenchmarkJoin is a thousand nodes that join at once: TLS, request, signature,
// commit, answer; both sides in this process.
func BenchmarkJoin(b *testing.B) {
	const nodes = 1000
	syncs, spent := 0, time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		on := store.New(store.Config{})
		log := newDisk(b, on)
		on.SetLog(log)
		on.Lead(1)
		s := newSwarmOn(b, on)
		s.issue(b)
		worker := token(b, s.tokens.GetWorker())
		b.StartTimer()
		var wg sync.WaitGroup
		for range nodes {
			wg.Go(func() {
				j := &client.Joiner{Managers: client.NewManagers(s.addr), Version: "bench"}
				if _, err := j.RequestCertificate(context.Background(), s.identity.Root(), worker, api.NodeSpec_ACTIVE); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		if got := s.store.Read().Nodes.Len(); got != nodes+1 {
			b.Errorf("%d nodes, want %d", got, nodes+1)
		}
		log.mu.Lock()
		syncs += log.syncs
		spent += log.spent
		log.mu.Unlock()
		b.StartTimer()
	}
	b.ReportMetric(float64(syncs)/float64(b.N), "fsyncs/op")
	b.ReportMetric(spent.Seconds()/float64(b.N), "fsync-s/op")
	b.ReportMetric(float64(nodes*b.N)/b.Elapsed().Seconds(), "certificates/s")
}
