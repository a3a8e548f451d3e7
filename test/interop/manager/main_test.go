package manager

import (
	"io"
	"testing"

	"github.com/sirupsen/logrus"
)

// The library tells logrus' standard logger of every connection of gRPC, which
// would drown the report of a test that failed. What it logs on behalf of a test
// goes to that test's own log.
func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	m.Run()
}
