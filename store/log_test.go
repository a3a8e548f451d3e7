package store_test

import (
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/store"
)

// heldLog keeps what is proposed until the test commits or refuses it.
type heldLog struct {
	mu      sync.Mutex
	batches [][][]byte
	held    [][]byte
	index   uint64
	block   chan struct{} // Propose waits for it, if there is one
}

func (l *heldLog) Propose(data [][]byte) {
	l.mu.Lock()
	l.batches = append(l.batches, data)
	l.held = append(l.held, data...)
	block := l.block
	l.mu.Unlock()
	if block != nil {
		<-block
	}
}

// commit applies the next n entries.
func (l *heldLog) commit(t testing.TB, s *store.Store, n int) {
	t.Helper()
	for range n {
		must(t, s.Apply(store.Entry{Index: l.next(), Term: 1, Data: l.pop()}))
	}
}

func (l *heldLog) pop() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.held[0]
	l.held = l.held[1:]
	return d
}

// next takes an index.
func (l *heldLog) next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	return l.index
}

// take removes entry i from what is held.
func (l *heldLog) take(i int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.held[i]
	l.held = slices.Delete(l.held, i, i+1)
	return d
}

func (l *heldLog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// held returns a store that leads and its log.
func held(cfg store.Config) (*store.Store, *heldLog) {
	l := &heldLog{}
	cfg.Log = l
	cfg.Freeze = true
	s := store.New(cfg)
	s.Lead(1)
	return s, l
}

// entry is what another manager would have put in the log.
func entry(t testing.TB, actions ...*api.StoreAction) []byte {
	t.Helper()
	data, err := proto.Marshal(&api.InternalRaftRequest{Id: 77, Action: actions})
	must(t, err)
	return data
}

func createAction(v *api.Service) *api.StoreAction {
	return &api.StoreAction{Action: api.StoreActionKind_STORE_ACTION_CREATE, Target: &api.StoreAction_Service{Service: v}}
}

// written returns the object with what a leader stamps on it.
func written(v *api.Service, version uint64) *api.Service {
	v.Meta = &api.Meta{Version: &api.Version{Index: version}}
	return v
}

func versionOf(t testing.TB, s *store.Snapshot, serviceID string) uint64 {
	t.Helper()
	v, ok := s.Services.Get(serviceID)
	if !ok {
		t.Fatalf("there is no service %s", serviceID)
	}
	return v.Meta.Version.Index
}
