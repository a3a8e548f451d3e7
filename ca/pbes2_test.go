package ca

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func readPEM(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s has no PEM block", name)
	}
	return block.Bytes
}

// The files were made by openssl 3.0: one key, plain and encrypted with "skep-test".
func TestKeysThatOpensslEncryptedAreRead(t *testing.T) {
	t.Parallel()
	plain := readPEM(t, "plain.pem")
	for _, name := range []string{"aes256-sha256.pem", "aes128-sha1.pem"} {
		der := readPEM(t, name)
		got, err := decryptPKCS8(der, []byte("skep-test"))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s is not the plain key: %v", name, err)
		}
		if got, err := decryptPKCS8(der, []byte("skep-tesT")); err == nil && bytes.Equal(got, plain) || err != nil && !errors.Is(err, errDecrypt) {
			t.Errorf("%s with another passphrase: %v", name, err)
		}
	}
}

func TestAnEncryptedKeyIsReadBack(t *testing.T) {
	t.Parallel()
	kek := testKEK(0) // bytes that no text has
	for n := range 40 {
		plain := bytes.Repeat([]byte{7}, n)
		der, err := encryptPKCS8(plain, kek)
		if err != nil {
			t.Fatal(err)
		}
		if n >= 16 && bytes.Contains(der, plain) {
			t.Errorf("%d bytes stand there in the clear", n)
		}
		if got, err := decryptPKCS8(der, kek); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes are read back as %d: %v", n, len(got), err)
		}
		for cut := range der {
			if _, err := decryptPKCS8(der[:cut], kek); err == nil {
				t.Errorf("%d of %d bytes pass for an encrypted key", cut, len(der))
			}
		}
	}
}

func FuzzDecryptPKCS8(f *testing.F) {
	f.Add(readPEM(f, "aes256-sha256.pem"))
	f.Add(readPEM(f, "aes128-sha1.pem"))
	f.Fuzz(func(t *testing.T, der []byte) {
		if plain, err := decryptPKCS8(der, []byte("skep-test")); err == nil && len(plain) >= len(der) {
			t.Fatalf("%d bytes decrypt to %d", len(der), len(plain))
		}
	})
}
