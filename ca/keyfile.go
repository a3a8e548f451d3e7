package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"golang.org/x/crypto/nacl/secretbox"
	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

// The PEM headers of a key file.
const (
	// raftKeyHeader holds the key that the raft log is encrypted with, a
	// MaybeEncryptedRecord in base64.
	raftKeyHeader = "raft-dek"
	// pendingHeader holds, in the same form, the key that is about to take its place.
	pendingHeader = "raft-dek-pending"
	// rotateHeader is there while the key of the raft log ought to be replaced.
	rotateHeader = "raft-dek-needs-rotation"
	// versionHeader is the version of the cluster object that the present unlock key,
	// or that there is none, was taken from.
	versionHeader = "kek-version"
	// exposedHeader is there while the node key is one that was on disk in the clear
	// before the file was locked.
	exposedHeader = "node-key-exposed"

	// RaftKeySize is the size of the raft log's key in bytes.
	RaftKeySize = 32
	kekSize     = 32
	yes         = "true"
)

// keyFile is the content of a node's key file: PKCS#8 with PEM headers. Headers
// that this version does not know are kept. In a locked file the node key and the
// raft log's keys are encrypted.
type keyFile struct {
	key     Key
	headers map[string]string
	// kek is what the file is locked with, nil if it is not.
	kek []byte
}

func (f keyFile) encode() ([]byte, error) {
	if f.kek == nil {
		return encodePrivateKey(f.key.private, f.headers)
	}
	der, err := x509.MarshalPKCS8PrivateKey(f.key.private)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	if der, err = encryptPKCS8(der, f.kek); err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: encryptedKeyBlock, Headers: f.headers, Bytes: der})
	if text == nil {
		return nil, model.Errorf(model.Invalid, "encode a private key: a header has a colon in its name")
	}
	return text, nil
}

// parseKeyFile reads a key file. If it is locked, one of keks has to fit; the error
// wraps ErrLocked when none does.
func parseKeyFile(text []byte, keks ...[]byte) (keyFile, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return keyFile{}, model.Errorf(model.Invalid, "no PEM block in %d bytes", len(text))
	}
	if block.Type != encryptedKeyBlock {
		return keyFileOf(block, nil)
	}
	for _, kek := range keks {
		der, err := decryptPKCS8(block.Bytes, kek)
		if err == nil {
			plain := &pem.Block{Type: keyBlock, Headers: block.Headers, Bytes: der}
			if file, err := keyFileOf(plain, kek); err == nil {
				return file, nil
			}
			err = errDecrypt // another key that happened to leave valid padding
		}
		if !errors.Is(err, errDecrypt) {
			return keyFile{}, model.Errorf(model.Invalid, "private key: %w", err)
		}
	}
	if len(keks) > 0 {
		return keyFile{}, errWrongKEK
	}
	return keyFile{}, ErrLocked
}

func keyFileOf(block *pem.Block, kek []byte) (keyFile, error) {
	signer, err := parsePrivateKey(block)
	if err != nil {
		return keyFile{}, err
	}
	private, ok := signer.(*ecdsa.PrivateKey)
	if !ok {
		return keyFile{}, model.Errorf(model.Invalid, "node keys are ECDSA, this is a %T", signer)
	}
	return keyFile{key: Key{private}, headers: block.Headers, kek: kek}, nil
}

// dek returns the key of the raft log in a header, nil when the file has none.
func (f keyFile) dek(header string) (*[RaftKeySize]byte, error) {
	text, ok := f.headers[header]
	if !ok {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "header %s: %w", header, err)
	}
	var record api.MaybeEncryptedRecord
	if err := proto.Unmarshal(raw, &record); err != nil {
		return nil, model.Errorf(model.Invalid, "header %s: %w", header, err)
	}
	data, err := f.open(&record)
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", header, err)
	}
	if len(data) != RaftKeySize {
		return nil, model.Errorf(model.Invalid, "header %s holds %d bytes, a key has %d", header, len(data), RaftKeySize)
	}
	return (*[RaftKeySize]byte)(data), nil
}

func (f keyFile) open(record *api.MaybeEncryptedRecord) ([]byte, error) {
	switch record.GetAlgorithm() {
	case api.MaybeEncryptedRecord_NONE:
		return record.GetData(), nil
	case api.MaybeEncryptedRecord_SECRETBOX_SALSA20_POLY1305:
		if f.kek == nil {
			return nil, model.Errorf(model.Precondition, "it is encrypted, and the file is not: it needs the swarm's unlock key")
		}
		if len(record.GetNonce()) != 24 {
			return nil, model.Errorf(model.Invalid, "its nonce has %d bytes, want 24", len(record.GetNonce()))
		}
		data, ok := secretbox.Open(nil, record.GetData(), (*[24]byte)(record.GetNonce()), (*[kekSize]byte)(f.kek))
		if !ok {
			return nil, model.Errorf(model.Invalid, "it does not decrypt with the key that the file is locked with")
		}
		return data, nil
	}
	return nil, model.Errorf(model.Precondition, "it is encrypted with %s, which this release does not read", record.GetAlgorithm())
}

// withDEK returns f with the key of the raft log in a header, or without if key is nil.
func (f keyFile) withDEK(header string, key *[RaftKeySize]byte) (keyFile, error) {
	if key == nil {
		return f.without(header), nil
	}
	record := &api.MaybeEncryptedRecord{Algorithm: api.MaybeEncryptedRecord_NONE, Data: key[:]}
	if f.kek != nil {
		var nonce [24]byte
		if _, err := rand.Read(nonce[:]); err != nil {
			return f, fmt.Errorf("encrypt the raft log's key: %w", err)
		}
		record.Algorithm = api.MaybeEncryptedRecord_SECRETBOX_SALSA20_POLY1305
		record.Nonce = nonce[:]
		record.Data = secretbox.Seal(nil, key[:], &nonce, (*[kekSize]byte)(f.kek))
	}
	raw, err := proto.Marshal(record)
	if err != nil {
		return f, model.Errorf(model.Internal, "header %s: %w", header, err)
	}
	return f.with(header, base64.StdEncoding.EncodeToString(raw)), nil
}

func (f keyFile) with(header, value string) keyFile {
	f.headers = maps.Clone(f.headers)
	if f.headers == nil {
		f.headers = make(map[string]string)
	}
	f.headers[header] = value
	return f
}

func (f keyFile) without(header string) keyFile {
	f.headers = maps.Clone(f.headers)
	delete(f.headers, header)
	return f
}

// version returns the version of the unlock key. What is no number is none.
func (f keyFile) version() uint64 {
	n, err := strconv.ParseUint(f.headers[versionHeader], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// rewrap returns f locked with another key, or with none.
func (f keyFile) rewrap(version uint64, kek []byte) (keyFile, error) {
	next := f
	next.kek = bytes.Clone(kek)
	next = next.with(versionHeader, strconv.FormatUint(version, 10))
	for _, header := range []string{raftKeyHeader, pendingHeader} {
		key, err := f.dek(header)
		if err != nil {
			return f, err
		}
		if next, err = next.withDEK(header, key); err != nil {
			return f, err
		}
	}
	if f.kek == nil && kek != nil {
		// What was on disk in the clear may still be found there.
		next = next.with(exposedHeader, yes)
		if _, ok := next.headers[raftKeyHeader]; ok {
			next = next.with(rotateHeader, yes)
		}
	}
	return next, nil
}
