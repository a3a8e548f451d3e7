package cli

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAnErrorOfAManagerIsReadWithoutItsFrame(t *testing.T) {
	t.Parallel()
	a := &app{path: "swarmd.sock"}
	notFound := status.Error(codes.NotFound, "secret x not found")
	noConnection := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: refused"`)
	const hint = "no node answers at swarmd.sock: refused\nIs swarmd running there? Name another socket with --socket or SWARM_SOCKET."
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("no frame"), "no frame"},
		{notFound, "secret x not found"},
		{fmt.Errorf("--secret: %w", notFound), "--secret: secret x not found"},
		{noConnection, hint},
		{fmt.Errorf("--secret: %w", noConnection), "--secret: " + hint},
	} {
		if got := a.text(c.err); got != c.want {
			t.Errorf("text(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}
