package manager_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"skep/api"
	"skep/manager"
	"skep/store"
	"skep/vfs"
)

// A manager that starts with a large state: how long until it serves, and how long writes take in the
// seconds after that, in which its first digest is taken.
func BenchmarkStart(b *testing.B) {
	const objects, each, writes = 100_000, 500, 512
	disk := vfs.NewMem()
	cfg := founder(b)
	cfg.FS = disk
	m, stop := lead(b, cfg)
	config := func(id string, data byte) *api.Config {
		return &api.Config{Id: id, Spec: &api.ConfigSpec{Annotations: &api.Annotations{Name: id}, Data: slices.Repeat([]byte{data}, 700)}}
	}
	for i := 0; i < objects; i += each {
		if err := m.Store().Update(context.Background(), func(tx *store.Tx) error {
			for n := range each {
				if err := tx.Create(config(fmt.Sprintf("config%06d", i+n), 1)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	stop()
	cfg.Founding = nil
	b.Run(fmt.Sprintf("objects=%d", objects), func(b *testing.B) {
		var serving time.Duration
		var took []time.Duration
		for b.Loop() {
			cfg := cfg
			cfg.FS = disk.Copy()
			began := time.Now()
			m, stop := lead(b, cfg)
			serving += time.Since(began)
			took = append(took, write(b, m, config, writes)...)
			stop()
		}
		slices.Sort(took)
		b.ReportMetric(serving.Seconds()/float64(b.N), "s/serving")
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/write")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/write-p99")
	})
}

// write makes n writes, one after the other, and returns how long each took.
func write(b *testing.B, m *manager.Manager, config func(string, byte) *api.Config, n int) (took []time.Duration) {
	b.Helper()
	for i := range n {
		began := time.Now()
		if err := m.Store().Update(context.Background(), func(tx *store.Tx) error {
			return tx.Create(config(fmt.Sprintf("later%06d", i), 2))
		}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	return took
}
