package ca

import (
	"fmt"
	"strings"
	"testing"

	"skep/model"
)

func TestATokenIsReadBackAsItWasMade(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	token, err := NewToken(s.root)
	if err != nil {
		t.Fatal(err)
	}
	text := token.Reveal()
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != "SWMTKN" || parts[1] != "1" || len(parts[2]) != 50 || len(parts[3]) != 25 {
		t.Fatalf("token %q: want SWMTKN-1-<50>-<25>", text)
	}
	if parts[2] != DigestOf(s.root.PEM()) {
		t.Errorf("digest %s, want that of the root's exact bytes, %s", parts[2], DigestOf(s.root.PEM()))
	}
	back, err := ParseToken(text)
	if err != nil || back != token {
		t.Errorf("ParseToken = %v, %v; want the same token", back.Reveal(), err)
	}
	other, err := NewToken(s.root)
	if err != nil || other.Reveal() == text {
		t.Errorf("a second token is the same as the first (%v)", err)
	}
}

func TestDigestsArePaddedToTheirLength(t *testing.T) {
	t.Parallel()
	if got := base36([]byte{0, 1}, 5); got != "00001" {
		t.Errorf("base36 = %q, want 00001", got)
	}
	all := make([]byte, digestBytes)
	for i := range all {
		all[i] = 0xff
	}
	if got := base36(all, digestLength); len(got) != digestLength || !isBase36(got, digestLength, digestBytes) {
		t.Errorf("the largest digest is %q", got)
	}
}

func TestTokensThatCannotBeUsedSayWhy(t *testing.T) {
	t.Parallel()
	digest, secret := strings.Repeat("1", 50), strings.Repeat("2", 25)
	tests := []struct {
		name, token, want string
		kind              model.Kind
	}{
		{"empty", "", "it is empty", model.Invalid},
		{"another word", "hello", "does not begin with SWMTKN", model.Invalid},
		{"only the prefix", "SWMTKN", "1 parts", model.Invalid},
		{"no secret", "SWMTKN-1-" + digest, "3 parts", model.Invalid},
		{"too many parts", "SWMTKN-1-" + digest + "-" + secret + "-x", "5 parts", model.Invalid},
		{"another version", "SWMTKN-7-" + digest + "-" + secret, `version "7"`, model.Invalid},
		{"FIPS", "SWMTKN-2-1-" + digest + "-" + secret, "FIPS", model.Precondition},
		{"short digest", "SWMTKN-1-" + digest[1:] + "-" + secret, "third part", model.Invalid},
		{"short secret", "SWMTKN-1-" + digest + "-" + secret[1:], "last part", model.Invalid},
		{"upper case", "SWMTKN-1-" + digest + "-" + strings.Repeat("A", 25), "last part", model.Invalid},
		{"digest too large", "SWMTKN-1-" + strings.Repeat("z", 50) + "-" + secret, "third part", model.Invalid},
		{"secret too large", "SWMTKN-1-" + digest + "-" + strings.Repeat("z", 25), "last part", model.Invalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseToken(test.token)
			if err == nil || !strings.Contains(err.Error(), test.want) || model.KindOf(err) != test.kind {
				t.Fatalf("error %v (kind %d), want %q (kind %d)", err, model.KindOf(err), test.want, test.kind)
			}
			if test.token != "" && !strings.HasPrefix(err.Error(), "invalid join token") {
				t.Errorf("error %q does not begin with the words that people look for", err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestSecretsPrintNothing(t *testing.T) {
	t.Parallel()
	s := newSwarm(t, "cluster")
	token, _ := NewToken(s.root)
	key, _ := NewKey()
	for _, text := range []string{
		fmt.Sprint(token), fmt.Sprintf("%v %+v %#v %s", token, token, token, token), token.LogValue().String(),
		fmt.Sprint(key), fmt.Sprintf("%v %+v %#v", key, key, key), key.LogValue().String(),
	} {
		if strings.Contains(text, token.secret) || strings.Contains(text, "private") || !strings.Contains(text, "[secret]") {
			t.Errorf("it prints as %q", text)
		}
	}
}

func TestNothingEqualsAnEmptyToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		presented, expected string
		want                bool
	}{
		{"", "", false}, {"a", "", false}, {"", "a", false}, {"a", "a", true}, {"a", "ab", false}, {"b", "a", false},
	} {
		if got := SameToken(test.presented, test.expected); got != test.want {
			t.Errorf("SameToken(%q, %q) = %v, want %v", test.presented, test.expected, got, test.want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("SWMTKN-1-" + strings.Repeat("1", 50) + "-" + strings.Repeat("2", 25))
	f.Add("SWMTKN-2-1-" + strings.Repeat("1", 50) + "-" + strings.Repeat("2", 25))
	f.Add("SWMTKN-1--")
	f.Add("----")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && token.Reveal() != text {
			t.Errorf("%q was read as %q", text, token.Reveal())
		}
		if err != nil && model.KindOf(err) != model.Invalid && model.KindOf(err) != model.Precondition {
			t.Errorf("%q: kind %d", text, model.KindOf(err))
		}
	})
}
