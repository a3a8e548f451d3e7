package rpc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"skep/model"
)

func TestAGateClosesWhenThoseInsideAreAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		for range 2 {
			if err := g.enter(); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		time.AfterFunc(time.Second, g.leave)
		time.AfterFunc(3*time.Second, g.leave)
		time.AfterFunc(2*time.Second, func() {
			if err := g.enter(); model.KindOf(err) != model.Unavailable {
				t.Errorf("who comes late is told %v", err)
			}
		})
		g.Close(t.Context())
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it closed after %s, want to wait for the last one", took)
		}
	})
}

func TestAGateThatNobodyIsInsideOfClosesAtOnce(t *testing.T) {
	t.Parallel()
	var g Gate
	g.Close(t.Context())
	if err := g.enter(); model.KindOf(err) != model.Unavailable {
		t.Errorf("who comes late is told %v", err)
	}
}

func TestClosingAGateIsNotHeldUpForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		if err := g.enter(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g.Close(ctx)
		if ctx.Err() == nil {
			t.Error("it closed with a request inside")
		}
		g.leave()
	})
}
