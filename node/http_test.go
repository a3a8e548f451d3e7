package node

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTheDebugServerDoesNotTellTheCommandLine(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{"/debug/pprof/cmdline": http.StatusNotFound, "/debug/pprof/heap": http.StatusOK} {
		r := httptest.NewRecorder()
		debugHandler().ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		if r.Code != want {
			t.Errorf("%s: %d, want %d", path, r.Code, want)
		}
	}
}
