package manager

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"skep/model"
)

// isClosed reports whether a connection was closed by whoever made it.
func isClosed(c grpc.ClientConnInterface) bool {
	return c.(*grpc.ClientConn).GetState() == connectivity.Shutdown //nolint:forcetypeassert // of this test
}

func TestConnectionsToWhoIsNoMemberAreClosedOnceTheyHadTimeToAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &conns{dial: func(addr string) (*grpc.ClientConn, error) {
			return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		}}
		to := func(addr string) grpc.ClientConnInterface {
			t.Helper()
			conn, err := c.to(addr)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		a, b := to("a"), to("b")
		c.keep(map[string]bool{"a": true})
		<-time.After(answerLimit - time.Second)
		if isClosed(b) {
			t.Error("it was closed before it could answer")
		}
		again := to("b") // it is a member again
		c.keep(map[string]bool{"a": true, "b": true})
		<-time.After(2 * time.Second)
		if !isClosed(b) || isClosed(a) || again == b || isClosed(again) || to("a") != a || to("b") != again {
			t.Errorf("closed: the former member's %t, the member's %t, the new one's %t; want the first alone", isClosed(b), isClosed(a), isClosed(again))
		}
		c.keep(map[string]bool{"a": true})
		c.close()
		if !isClosed(a) || !isClosed(again) {
			t.Error("one is open after all were closed")
		}
		if _, err := c.to("a"); model.KindOf(err) != model.Unavailable {
			t.Errorf("another one is made then: %v", err)
		}
	})
}
