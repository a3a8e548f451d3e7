package watchapi

import (
	"google.golang.org/grpc"

	"skep/api"
	"skep/model"
	"skep/store"
)

// DefaultLimit is how many changes may wait for one watch. A watch that does not
// read costs less than a megabyte.
const DefaultLimit = 8192

// Config is what a Server needs. Store is required.
type Config struct {
	Store *store.Store
	// Limit is how many changes may wait for one watch; 0 is DefaultLimit.
	Limit int
	// Stop, when closed, ends all watches with kind Unavailable. Nil never does.
	Stop <-chan struct{}
}

// Server serves Watch. Create it with New.
type Server struct {
	api.UnimplementedWatchServer
	store *store.Store
	limit int
	stop  <-chan struct{}
}

// New returns a server over cfg.Store.
func New(cfg Config) *Server {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	return &Server{store: cfg.Store, limit: cfg.Limit, stop: cfg.Stop}
}

// Watch sends what is asked for until the client goes, the manager stops, or the
// client falls behind.
func (s *Server) Watch(r *api.WatchRequest, stream grpc.ServerStreamingServer[api.WatchMessage]) error {
	w, err := parse(r)
	if err != nil {
		return err
	}
	var past []store.Commit
	var sub *store.Subscription
	if from := r.GetResumeFrom(); from != nil {
		if past, sub, err = s.store.Since(from.GetIndex(), s.limit, w.keys()...); err != nil {
			return err
		}
	} else {
		_, sub = s.store.Subscribe(s.limit, w.keys()...)
	}
	defer sub.Close()
	if err := stream.Send(&api.WatchMessage{}); err != nil {
		return err
	}
	if err := w.send(stream, past); err != nil {
		return err
	}
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-s.stop:
			return model.Errorf(model.Unavailable, "the manager stops: watch another one, and resume from the last version")
		case <-sub.Ready():
		}
		commits, lost := sub.Take()
		if lost {
			return model.Errorf(model.Exhausted, "the watch fell behind: more than %d changes waited for it, or this manager's state was replaced; list again and watch anew", s.limit)
		}
		if err := w.send(stream, commits); err != nil {
			return err
		}
	}
}

// send sends a message for each commit that has something for the watch.
func (w *watch) send(stream grpc.ServerStreamingServer[api.WatchMessage], commits []store.Commit) error {
	for _, c := range commits {
		var events []*api.WatchMessage_Event
		for _, change := range c.Changes {
			if e := w.event(change); e != nil {
				events = append(events, e)
			}
		}
		if len(events) == 0 {
			continue
		}
		if err := stream.Send(&api.WatchMessage{Events: events, Version: &api.Version{Index: c.Index}}); err != nil {
			return err
		}
	}
	return nil
}
