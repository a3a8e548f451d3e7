package ca

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"

	"skep/api"
	"skep/model"
)

const (
	unlockPrefix = "SWMKEY-1-"
	// UnlockKeySize is the size of an unlock key in bytes.
	UnlockKeySize = 32
)

// UnlockKey is the key that the managers of a swarm are locked with. Its text,
// SWMKEY-1-<unpadded base64>, is for the person who keeps it. It prints nothing.
// The zero value is no key: managers are not locked.
type UnlockKey struct {
	key [UnlockKeySize]byte
	set bool
}

// NewUnlockKey makes a key.
func NewUnlockKey() (UnlockKey, error) {
	k := UnlockKey{set: true}
	if _, err := rand.Read(k.key[:]); err != nil {
		return UnlockKey{}, fmt.Errorf("make an unlock key: %w", err)
	}
	return k, nil
}

// UnlockKeyOf reads a key as the cluster object and CA.GetUnlockKey carry it: no
// bytes are no key.
func UnlockKeyOf(raw []byte) (UnlockKey, error) {
	switch len(raw) {
	case 0:
		return UnlockKey{}, nil
	case UnlockKeySize:
		return UnlockKey{key: [UnlockKeySize]byte(raw), set: true}, nil
	}
	return UnlockKey{}, model.Errorf(model.Invalid, "invalid unlock key: it has %d bytes, a key has %d: rotate it with \"swarmctl cluster unlock-key --rotate\"", len(raw), UnlockKeySize)
}

// ParseUnlockKey reads the text of a key, and space around it, which is what
// copying leaves. Nothing of the key shows in an error.
func ParseUnlockKey(text string) (UnlockKey, error) {
	const next = "print it with \"swarmctl cluster unlock-key\" on a manager that is not locked"
	text = strings.TrimSpace(text)
	coded, ok := strings.CutPrefix(text, unlockPrefix)
	switch {
	case text == "":
		return UnlockKey{}, model.Errorf(model.Invalid, "invalid unlock key: it is empty: %s", next)
	case !ok && strings.HasPrefix(text, tokenPrefix):
		return UnlockKey{}, model.Errorf(model.Invalid, "invalid unlock key: this is a join token, an unlock key begins with %s: %s", unlockPrefix, next)
	case !ok:
		return UnlockKey{}, model.Errorf(model.Invalid, "invalid unlock key: it does not begin with %s: %s", unlockPrefix, next)
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(coded)
	if err != nil || len(raw) != UnlockKeySize {
		return UnlockKey{}, model.Errorf(model.Invalid, "invalid unlock key: after %s there have to be %d characters of base64: it may have been cut off: %s",
			unlockPrefix, base64.RawStdEncoding.EncodedLen(UnlockKeySize), next)
	}
	return UnlockKey{key: [UnlockKeySize]byte(raw), set: true}, nil
}

// UnlockKeyIn returns the key that the cluster object holds, the zero key when
// its managers are not locked.
func UnlockKeyIn(cluster *api.Cluster) (UnlockKey, error) {
	for _, k := range cluster.GetUnlockKeys() {
		if k.GetSubsystem() == ManagerOU {
			return UnlockKeyOf(k.GetKey())
		}
	}
	return UnlockKey{}, nil
}

// IsZero reports whether k is no key.
func (k UnlockKey) IsZero() bool { return !k.set }

// Bytes returns the key itself, for a cipher, the cluster object or a manager's
// answer; nil when there is none.
func (k UnlockKey) Bytes() []byte {
	if !k.set {
		return nil
	}
	return append([]byte(nil), k.key[:]...)
}

// Reveal returns the text of the key, for the person who asked for it, or "".
func (k UnlockKey) Reveal() string {
	if !k.set {
		return ""
	}
	return unlockPrefix + base64.RawStdEncoding.EncodeToString(k.key[:])
}

// Equal reports in constant time whether both are the same key, or both none.
func (k UnlockKey) Equal(other UnlockKey) bool {
	return k.set == other.set && subtle.ConstantTimeCompare(k.key[:], other.key[:]) == 1
}

// String keeps unlock keys out of messages.
func (UnlockKey) String() string { return "[secret]" }

// GoString keeps unlock keys out of %#v.
func (UnlockKey) GoString() string { return "[secret]" }

// LogValue keeps unlock keys out of logs.
func (UnlockKey) LogValue() slog.Value { return slog.StringValue("[secret]") }
