package model

import "strings"

const (
	maxNameLength       = 63
	maxObjectNameLength = 64
	maxFreeNameLength   = 253 // extensions and resources: any text, but a name
)

// CheckName checks the name of a service or network: letters and digits, with
// '-' and '_' between them, 1 to 63 characters. what is the kind of object, for
// the error.
func CheckName(what, name string) error {
	if err := checkNameLength(what, name, maxNameLength); err != nil {
		return err
	}
	if !wellNamed(name, "-_") {
		return Errorf(Invalid, "%s name %.80q is not valid: it may hold letters, digits, '-' and '_', and starts and ends with a letter or digit; choose another name", what, name)
	}
	return nil
}

// CheckObjectName checks the name of a secret, config or volume: as CheckName,
// with '.' allowed too, 1 to 64 characters.
func CheckObjectName(what, name string) error {
	if err := checkNameLength(what, name, maxObjectNameLength); err != nil {
		return err
	}
	if !wellNamed(name, "-_.") {
		return Errorf(Invalid, "%s name %.80q is not valid: it may hold letters, digits, '-', '_' and '.', and starts and ends with a letter or digit; choose another name", what, name)
	}
	return nil
}

func checkNameLength(what, name string, most int) error {
	switch {
	case name == "":
		return Errorf(Invalid, "%s has no name: objects are found by name; set annotations.name", what)
	case len(name) > most:
		return Errorf(Invalid, "%s name %.80q is too long: it has %d characters and may have %d; choose a shorter one", what, name, len(name), most)
	}
	return nil
}

// wellNamed reports whether name starts and ends with an ASCII letter or digit
// and has nothing but those and the characters of inner between.
func wellNamed(name, inner string) bool {
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			continue
		}
		if i == 0 || i == len(name)-1 || strings.IndexByte(inner, c) < 0 {
			return false
		}
	}
	return name != ""
}
