package model

import "skep/api"

// CheckExtension checks the annotations of a new extension. Its errors have kind Invalid.
func CheckExtension(a *api.Annotations) error {
	if err := checkNameLength("extension", a.GetName(), maxFreeNameLength); err != nil {
		return err
	}
	return CheckWellFormed("extension.annotations", a)
}

// CheckResource checks the annotations and kind of a new resource. Its errors
// have kind Invalid. Whether the kind exists is checked in the transaction that
// stores it.
func CheckResource(a *api.Annotations, kind string) error {
	if err := checkNameLength("resource", a.GetName(), maxFreeNameLength); err != nil {
		return err
	}
	if kind == "" {
		return Errorf(Invalid, "resource %.80q has no kind: nothing says what it is; set kind to the name of an extension", a.GetName())
	}
	return CheckWellFormed("resource.annotations", a)
}
