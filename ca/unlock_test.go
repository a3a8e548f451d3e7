package ca

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"skep/api"
	"skep/model"
)

func TestAnUnlockKeySurvivesItsText(t *testing.T) {
	t.Parallel()
	key, err := NewUnlockKey()
	if err != nil {
		t.Fatal(err)
	}
	text := key.Reveal()
	if !strings.HasPrefix(text, "SWMKEY-1-") || len(text) != len("SWMKEY-1-")+43 || strings.Contains(text, "=") {
		t.Errorf("the text has %d characters", len(text))
	}
	again, err := ParseUnlockKey("  " + text + "\n")
	if err != nil || !again.Equal(key) || !bytes.Equal(again.Bytes(), key.Bytes()) || again.IsZero() {
		t.Errorf("read again: %v", err)
	}
	raw, err := UnlockKeyOf(key.Bytes())
	if err != nil || !raw.Equal(key) {
		t.Errorf("from its bytes: %v", err)
	}
	other, err := NewUnlockKey()
	if err != nil || other.Equal(key) {
		t.Errorf("two new keys are the same (%v)", err)
	}
	var none UnlockKey
	if !none.IsZero() || none.Reveal() != "" || none.Bytes() != nil || none.Equal(key) || !none.Equal(UnlockKey{}) {
		t.Error("no key is not treated as none")
	}
}

func TestUnlockKeysThatCannotBeReadSayWhyAndNothingOfThemselves(t *testing.T) {
	t.Parallel()
	key, err := NewUnlockKey()
	if err != nil {
		t.Fatal(err)
	}
	text := key.Reveal()
	for name, test := range map[string]struct{ text, want string }{
		"empty":           {"", "it is empty"},
		"blank":           {" \n", "it is empty"},
		"a join token":    {"SWMTKN-1-abc-def", "this is a join token"},
		"no prefix":       {text[len("SWMKEY-1-"):], "does not begin with SWMKEY-1-"},
		"another version": {"SWMKEY-2-" + text[len("SWMKEY-1-"):], "does not begin with SWMKEY-1-"},
		"cut off":         {text[:len(text)-1], "cut off"},
		"too long":        {text + "A", "43 characters"},
		"padded":          {text + "=", "43 characters"},
		"not base64":      {text[:len(text)-1] + "!", "43 characters"},
		"nothing":         {"SWMKEY-1-", "43 characters"},
	} {
		_, err := ParseUnlockKey(test.text)
		if model.KindOf(err) != model.Invalid || !strings.Contains(fmt.Sprint(err), test.want) || !strings.Contains(fmt.Sprint(err), "swarmctl cluster unlock-key") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), text[20:40]) {
			t.Errorf("%s: the error tells the key", name)
		}
	}
	if _, err := UnlockKeyOf(make([]byte, 31)); model.KindOf(err) != model.Invalid {
		t.Errorf("31 bytes: %v", err)
	}
}

func TestAnUnlockKeyPrintsNothing(t *testing.T) {
	t.Parallel()
	key, err := NewUnlockKey()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", slog.Any("key", key))
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s", key, key, key, key), log.String()} {
		if !strings.Contains(printed, "[secret]") || strings.Contains(printed, key.Reveal()) || strings.Contains(printed, fmt.Sprintf("%d", key.Bytes())) {
			t.Errorf("printed as %s", printed)
		}
	}
}

func TestTheUnlockKeyInAClusterIsTheManagers(t *testing.T) {
	t.Parallel()
	key, err := NewUnlockKey()
	if err != nil {
		t.Fatal(err)
	}
	cluster := &api.Cluster{UnlockKeys: []*api.EncryptionKey{{Subsystem: "other", Key: []byte("x")}, {Subsystem: ManagerOU, Key: key.Bytes()}}}
	if got, err := UnlockKeyIn(cluster); err != nil || !got.Equal(key) {
		t.Errorf("%v", err)
	}
	if got, err := UnlockKeyIn(&api.Cluster{}); err != nil || !got.IsZero() {
		t.Errorf("none: %v", err)
	}
}

func FuzzUnlockKey(f *testing.F) {
	key, err := NewUnlockKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.Reveal())
	f.Add("SWMKEY-1-")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseUnlockKey(text)
		if err != nil {
			if model.KindOf(err) != model.Invalid || !key.IsZero() {
				t.Errorf("error %v", err)
			}
			return
		}
		if key.Reveal() != strings.TrimSpace(text) {
			t.Errorf("read from %q, it is written otherwise", text)
		}
	})
}
