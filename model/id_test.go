package model_test

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"testing"

	"skep/model"
)

func TestAnIDIsItsRandomBytesInBase36(t *testing.T) {
	t.Parallel()
	all := [][]byte{make([]byte, 17), bytes.Repeat([]byte{0xff}, 17)}
	for range 1000 {
		raw := make([]byte, 17)
		if _, err := rand.Read(raw); err != nil {
			t.Fatal(err)
		}
		all = append(all, raw)
	}
	for _, raw := range all {
		got := model.NewID(bytes.NewReader(raw))
		high := bytes.Clone(raw)
		high[0] |= 0x80
		if want := new(big.Int).SetBytes(high).Text(36)[1 : model.IDLength+1]; got != want {
			t.Errorf("%x: got %q, want %q", raw, got, want)
		}
	}
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		model.NewID(rand.Reader)
	}
}
