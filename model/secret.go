package model

import (
	"bytes"

	"skep/api"
)

const (
	// MaxSecretSize is the largest size of a secret's data, in bytes.
	MaxSecretSize = 512_000 - 1
	// MaxConfigSize is the largest size of a config's data, in bytes.
	MaxConfigSize = 1_024_000 - 1
)

// CheckSecret checks the spec of a new secret. Its errors have kind Invalid.
func CheckSecret(spec *api.SecretSpec) error {
	if spec == nil {
		return Errorf(Invalid, "secret has no spec: nothing says what it is; set spec")
	}
	if err := CheckObjectName("secret", spec.GetAnnotations().GetName()); err != nil {
		return err
	}
	if err := CheckWellFormed("secret", spec); err != nil {
		return err
	}
	if spec.GetDriver() == nil {
		return checkSize("secret", len(spec.GetData()), MaxSecretSize)
	}
	if spec.GetDriver().GetName() == "" {
		return Errorf(Invalid, "secret.driver has no name: nothing says who provides the data; set its name, or give data instead of a driver")
	}
	return nil
}

// CheckConfig checks the spec of a new config. Its errors have kind Invalid.
func CheckConfig(spec *api.ConfigSpec) error {
	if spec == nil {
		return Errorf(Invalid, "config has no spec: nothing says what it is; set spec")
	}
	if err := CheckObjectName("config", spec.GetAnnotations().GetName()); err != nil {
		return err
	}
	if err := CheckWellFormed("config", spec); err != nil {
		return err
	}
	return checkSize("config", len(spec.GetData()), MaxConfigSize)
}

func checkSize(what string, size, most int) error {
	if size == 0 || size > most {
		return Errorf(Invalid, "%s data has %d bytes: it has from 1 to %d; give other data", what, size, most)
	}
	return nil
}

// CheckSecretUpdate checks that an update of a secret changes labels only. Data
// that is not sent, as by a client that read the secret, is no change.
func CheckSecretUpdate(old, spec *api.SecretSpec) error {
	if spec == nil {
		return Errorf(Invalid, "secret update has no spec: nothing says what to change; set spec")
	}
	if err := CheckWellFormed("secret", spec); err != nil {
		return err
	}
	return checkOnlyLabels("secret", old.GetAnnotations(), spec.GetAnnotations(), old.GetData(), spec.GetData())
}

// CheckConfigUpdate is CheckSecretUpdate for a config.
func CheckConfigUpdate(old, spec *api.ConfigSpec) error {
	if spec == nil {
		return Errorf(Invalid, "config update has no spec: nothing says what to change; set spec")
	}
	if err := CheckWellFormed("config", spec); err != nil {
		return err
	}
	return checkOnlyLabels("config", old.GetAnnotations(), spec.GetAnnotations(), old.GetData(), spec.GetData())
}

func checkOnlyLabels(what string, was, is *api.Annotations, oldData, newData []byte) error {
	if is.GetName() != was.GetName() {
		return Errorf(Invalid, "%s %.80q cannot be renamed to %.80q: only labels may change; create another", what, was.GetName(), is.GetName())
	}
	if len(newData) > 0 && !bytes.Equal(oldData, newData) {
		return Errorf(Invalid, "the data of %s %.80q cannot change: tasks rely on it; only labels may; create another and update the services that use it", what, was.GetName())
	}
	return nil
}
