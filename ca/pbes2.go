package ca

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the default PRF of PBKDF2 in keys that others wrote
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// The encryption of PKCS#8 keys: PBES2 of RFC 8018, with PBKDF2 and AES-CBC. It is
// what openssl writes and reads ("openssl pkcs8 -topk8 -v2 aes-256-cbc").
//
// The passphrase is a random key of 32 bytes, so the iterations add nothing to its
// strength; there are as many as openssl makes.
const (
	pbkdf2Iterations = 2048
	// What a file asks for is what reading it costs.
	maxIterations = 1_000_000
)

// errDecrypt says that a passphrase does not fit. CBC does not authenticate: damage
// looks the same.
var errDecrypt = errors.New("it does not decrypt with this key")

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES128CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// encryptedKey is EncryptedPrivateKeyInfo of RFC 5958.
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct{ KDF, Cipher pkix.AlgorithmIdentifier }

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// encryptPKCS8 encrypts a PKCS#8 key.
func encryptPKCS8(plain, passphrase []byte) ([]byte, error) {
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("encrypt a private key: %w", err)
	}
	if _, err := rand.Read(iv); err != nil {
		return nil, fmt.Errorf("encrypt a private key: %w", err)
	}
	key, err := pbkdf2.Key(sha256.New, string(passphrase), salt, pbkdf2Iterations, 32)
	if err != nil {
		return nil, fmt.Errorf("encrypt a private key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt a private key: %w", err)
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	data := append([]byte(nil), plain...)
	for range pad {
		data = append(data, byte(pad))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	kdf, err := algorithm(oidPBKDF2, pbkdf2Params{
		Salt: salt, Iterations: pbkdf2Iterations,
		PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue},
	})
	if err != nil {
		return nil, err
	}
	enc, err := algorithm(oidAES256CBC, iv)
	if err != nil {
		return nil, err
	}
	both, err := algorithm(oidPBES2, pbes2Params{kdf, enc})
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal(encryptedKey{both, data})
	if err != nil {
		return nil, fmt.Errorf("encode an encrypted private key: %w", err)
	}
	return der, nil
}

func algorithm(oid asn1.ObjectIdentifier, params any) (pkix.AlgorithmIdentifier, error) {
	der, err := asn1.Marshal(params)
	if err != nil {
		return pkix.AlgorithmIdentifier{}, fmt.Errorf("encode an encrypted private key: %w", err)
	}
	return pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.RawValue{FullBytes: der}}, nil
}

// decryptPKCS8 decrypts a PKCS#8 key. Its error wraps errDecrypt if the passphrase
// does not fit.
func decryptPKCS8(der, passphrase []byte) ([]byte, error) {
	var outer encryptedKey
	var params pbes2Params
	var kdf pbkdf2Params
	var iv []byte
	if err := unmarshal(der, &outer); err != nil {
		return nil, err
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("encrypted with %s, which is not PBES2", outer.Algorithm.Algorithm)
	}
	if err := unmarshal(outer.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, err
	}
	if !params.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("its key is derived by %s, which is not PBKDF2", params.KDF.Algorithm)
	}
	if err := unmarshal(params.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, err
	}
	if kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, fmt.Errorf("%d iterations of PBKDF2, at most %d are done", kdf.Iterations, maxIterations)
	}
	var size int
	switch oid := params.Cipher.Algorithm; {
	case oid.Equal(oidAES256CBC):
		size = 32
	case oid.Equal(oidAES128CBC):
		size = 16
	default:
		return nil, fmt.Errorf("encrypted with %s, which is not AES-CBC", oid)
	}
	var prf func() hash.Hash
	switch oid := kdf.PRF.Algorithm; {
	case oid.Equal(oidHMACSHA256):
		prf = sha256.New
	case len(oid) == 0, oid.Equal(oidHMACSHA1):
		prf = sha1.New
	default:
		return nil, fmt.Errorf("its key is derived with %s, which is not HMAC of SHA-256 or SHA-1", oid)
	}
	if err := unmarshal(params.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	data := outer.Data
	if len(iv) != aes.BlockSize || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errors.New("the encrypted part is cut off")
	}
	key, err := pbkdf2.Key(prf, string(passphrase), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errDecrypt
	}
	end := len(plain) - pad
	for _, b := range plain[end:] {
		if int(b) != pad {
			return nil, errDecrypt
		}
	}
	return plain[:end], nil
}

func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err != nil {
		return fmt.Errorf("encrypted private key: %w", err)
	}
	if len(rest) > 0 {
		return errors.New("encrypted private key: bytes follow its end")
	}
	return nil
}
