package process

import (
	"errors"
	"os"
)

// release gives back what a task holds outside its directory while it runs. Its
// own working directory stays until it is removed.
func (h holdings) release() error {
	var errs []error
	if h.Files != "" {
		errs = append(errs, os.RemoveAll(h.Files))
	}
	return errors.Join(append(errs, removeCgroups(h.Cgroups))...)
}

// remove gives back the rest.
func (h holdings) remove() error {
	if h.Work == "" {
		return h.release()
	}
	return errors.Join(h.release(), os.RemoveAll(h.Work))
}
