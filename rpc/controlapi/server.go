package controlapi

import (
	"context"
	"time"

	"skep/api"
	"skep/model"
	"skep/store"
)

// Config is what a Server needs. Store and NewID are required.
type Config struct {
	Store *store.Store
	// NewID makes the IDs of new objects.
	NewID func() string
	// CheckTemplates reports templates of a service's tasks that cannot be
	// expanded, with kind Invalid. Nil checks none.
	CheckTemplates func(*api.ServiceSpec) error
	// Members lists the raft members, from which the manager status of nodes and
	// the rules for demotion and removal come. Nil is none.
	Members func() []*api.RaftMember
	// Learners lists the raft IDs of the members that do not vote yet. Nil is none.
	Learners func() []uint64
	// Promotable says why a node may not become a manager. It is called inside a
	// transaction: no I/O, no calls of the store. Nil is model.CheckPromotion.
	Promotable func(*api.Node) error
	// NewJoinToken makes a join token for the root certificates caCert (PEM). Nil
	// refuses rotations as Unimplemented.
	NewJoinToken func(caCert []byte) (string, error)
	// External asks external CAs. Nil refuses specs that need one as Unimplemented.
	External ExternalCA
	// Now is the wall clock of certificates; nil is time.Now.
	Now func() time.Time
}

// Server serves Control. Create it with New.
type Server struct {
	api.UnimplementedControlServer
	store          *store.Store
	newID          func() string
	checkTemplates func(*api.ServiceSpec) error
	members        func() []*api.RaftMember
	learners       func() []uint64
	promotable     func(*api.Node) error
	newJoinToken   func(caCert []byte) (string, error)
	external       ExternalCA
	now            func() time.Time
}

// New returns a server over cfg.Store.
func New(cfg Config) *Server {
	s := &Server{
		store:          cfg.Store,
		newID:          cfg.NewID,
		checkTemplates: cfg.CheckTemplates,
		members:        cfg.Members,
		learners:       cfg.Learners,
		promotable:     cfg.Promotable,
		newJoinToken:   cfg.NewJoinToken,
		external:       cfg.External,
		now:            cfg.Now,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.checkTemplates == nil {
		s.checkTemplates = func(*api.ServiceSpec) error { return nil }
	}
	if s.members == nil {
		s.members = func() []*api.RaftMember { return nil }
	}
	if s.learners == nil {
		s.learners = func() []uint64 { return nil }
	}
	if s.promotable == nil {
		s.promotable = model.CheckPromotion
	}
	if s.newJoinToken == nil {
		s.newJoinToken = func([]byte) (string, error) {
			return "", model.Errorf(model.Unimplemented, "this manager cannot make join tokens; leave rotation out")
		}
	}
	return s
}

// find returns the object that a request is about.
func find[T store.Object](s *store.Snapshot, id string) (T, error) {
	var none T
	kind := store.KindOf(none)
	if err := checkID(kind, id); err != nil {
		return none, err
	}
	if o, ok := store.Get[T](s, id); ok {
		return o, nil
	}
	return none, model.Errorf(model.NotFound, "%s %.80q not found: it never was, or has been removed; list those there are", kind, id)
}

func checkID(kind store.Kind, id string) error {
	if id == "" {
		return model.Errorf(model.Invalid, "invalid argument: the %s ID is empty, so nothing says which %s is meant; set it", kind, kind)
	}
	return nil
}

// change writes what f makes of the object that a request is about, if it still
// has the version that the request names. f gets the stored object and returns a
// changed copy.
func change[T store.Object](ctx context.Context, s *Server, id string, version *api.Version, f func(tx *store.Tx, old T) (T, error)) (T, error) {
	var none, written T
	kind := store.KindOf(none)
	if err := checkID(kind, id); err != nil {
		return none, err
	}
	if version == nil {
		return none, model.Errorf(model.Invalid, "invalid argument: the update of %s %.80q has no version, so nothing says which state it was made from; send the version that was read", kind, id)
	}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		old, err := find[T](tx.Snapshot, id)
		if err != nil {
			return err
		}
		if old.GetMeta().GetVersion().GetIndex() != version.GetIndex() {
			return model.Errorf(model.Conflict, "update out of sequence: %s %.80q was changed since it was read; read it again and repeat the change", kind, id)
		}
		if written, err = f(tx, old); err != nil {
			return err
		}
		return tx.Update(written)
	})
	if err != nil {
		return none, err
	}
	return written, nil
}

// remove removes the object that a request is about, unless refuse objects.
func remove[T store.Object](ctx context.Context, s *Server, id string, refuse func(tx *store.Tx, o T) error) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		o, err := find[T](tx.Snapshot, id)
		if err != nil {
			return err
		}
		if err := refuse(tx, o); err != nil {
			return err
		}
		return tx.Delete(o)
	})
}

// create writes a new object.
func create(ctx context.Context, s *Server, f func(tx *store.Tx) (store.Object, error)) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		o, err := f(tx)
		if err != nil {
			return err
		}
		return tx.Create(o)
	})
}
