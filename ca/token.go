package ca

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"math/big"
	"strings"

	"skep/model"
)

const (
	tokenPrefix  = "SWMTKN"
	digestLength = 50 // characters of a SHA-256 in base 36
	secretLength = 25 // characters of 16 bytes in base 36
	secretBytes  = 16
	digestBytes  = 32
)

// Token is a join token, SWMTKN-1-<digest of the root>-<secret>. The digest
// tells a joining node which root to trust; the whole text tells the manager
// that it may join. It prints nothing.
type Token struct {
	// Digest is DigestOf the root bundle that the manager hands out.
	Digest string
	secret string
}

// NewToken makes a token with a new secret for a root.
func NewToken(root *Root) (Token, error) {
	var raw [secretBytes]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return Token{}, fmt.Errorf("make a join token: %w", err)
	}
	return Token{Digest: root.Digest(), secret: base36(raw[:], secretLength)}, nil
}

// ParseToken reads a token. Nothing of its secret shows in an error.
func ParseToken(text string) (Token, error) {
	const next = "print a join command with \"swarmctl cluster join-token worker\" on a manager"
	parts := strings.Split(text, "-")
	switch {
	case text == "":
		return Token{}, model.Errorf(model.Invalid, "invalid join token: it is empty: %s", next)
	case parts[0] != tokenPrefix:
		return Token{}, model.Errorf(model.Invalid, "invalid join token: it does not begin with %s-1-: %s", tokenPrefix, next)
	case len(parts) > 1 && parts[1] == "2":
		return Token{}, model.Errorf(model.Precondition,
			"invalid join token: %s-2 belongs to a swarm that requires FIPS, and this node is not FIPS-enabled: join another swarm, or join this one from an engine in FIPS mode", tokenPrefix)
	case len(parts) > 1 && parts[1] != "1":
		return Token{}, model.Errorf(model.Invalid, "invalid join token: version %.16q is not known, only 1 is: %s", parts[1], next)
	case len(parts) != 4:
		return Token{}, model.Errorf(model.Invalid, "invalid join token: %d parts between dashes, there have to be 4: it may have been cut off: %s", len(parts), next)
	case !isBase36(parts[2], digestLength, digestBytes):
		return Token{}, model.Errorf(model.Invalid, "invalid join token: its third part is no digest of %d characters: it may have been cut off: %s", digestLength, next)
	case !isBase36(parts[3], secretLength, secretBytes):
		return Token{}, model.Errorf(model.Invalid, "invalid join token: its last part is no secret of %d characters: it may have been cut off: %s", secretLength, next)
	}
	return Token{Digest: parts[2], secret: parts[3]}, nil
}

// Reveal returns the text of the token, for the cluster object, a request or
// the person who asked for it.
func (t Token) Reveal() string { return tokenPrefix + "-1-" + t.Digest + "-" + t.secret }

// String keeps tokens out of messages.
func (Token) String() string { return "[secret]" }

// GoString keeps tokens out of %#v.
func (Token) GoString() string { return "[secret]" }

// LogValue keeps tokens out of logs.
func (Token) LogValue() slog.Value { return slog.StringValue("[secret]") }

// SameToken reports in constant time whether a presented token is the expected
// one. Nothing equals an empty token.
func SameToken(presented, expected string) bool {
	return expected != "" && subtle.ConstantTimeCompare([]byte(presented), []byte(expected)) == 1
}

func base36(raw []byte, length int) string {
	var n big.Int
	text := n.SetBytes(raw).Text(36)
	return strings.Repeat("0", length-len(text)) + text
}

// isBase36 reports whether text is what base36 makes of size bytes.
func isBase36(text string, length, size int) bool {
	if len(text) != length {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	n, ok := new(big.Int).SetString(text, 36)
	return ok && n.BitLen() <= size*8
}
