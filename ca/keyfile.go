package ca

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/pem"
	"maps"

	"google.golang.org/protobuf/proto"

	"skep/api"
	"skep/model"
)

const (
	// raftKeyHeader holds the key that the raft log is encrypted with, a
	// MaybeEncryptedRecord in base64.
	raftKeyHeader = "raft-dek"
	// RaftKeySize is the size of the raft log's key in bytes.
	RaftKeySize = 32
)

// keyFile is the content of a node's key file: PKCS#8 with PEM headers. Headers
// that this version does not know are kept.
type keyFile struct {
	key     Key
	headers map[string]string
}

func (f keyFile) encode() ([]byte, error) { return encodePrivateKey(f.key.private, f.headers) }

func parseKeyFile(text []byte) (keyFile, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return keyFile{}, model.Errorf(model.Invalid, "no PEM block in %d bytes", len(text))
	}
	signer, err := parsePrivateKey(block)
	if err != nil {
		return keyFile{}, err
	}
	private, ok := signer.(*ecdsa.PrivateKey)
	if !ok {
		return keyFile{}, model.Errorf(model.Invalid, "node keys are ECDSA, this is a %T", signer)
	}
	return keyFile{key: Key{private}, headers: block.Headers}, nil
}

// raftKey returns the raft log's key, false when the file has none.
func (f keyFile) raftKey() (key [RaftKeySize]byte, ok bool, err error) {
	text, ok := f.headers[raftKeyHeader]
	if !ok {
		return key, false, nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return key, false, model.Errorf(model.Invalid, "header %s: %w", raftKeyHeader, err)
	}
	var record api.MaybeEncryptedRecord
	if err := proto.Unmarshal(raw, &record); err != nil {
		return key, false, model.Errorf(model.Invalid, "header %s: %w", raftKeyHeader, err)
	}
	if record.GetAlgorithm() != api.MaybeEncryptedRecord_NONE {
		return key, false, model.Errorf(model.Precondition, "header %s is encrypted with %s: it needs the swarm's unlock key", raftKeyHeader, record.GetAlgorithm())
	}
	if len(record.GetData()) != RaftKeySize {
		return key, false, model.Errorf(model.Invalid, "header %s holds %d bytes, a key has %d", raftKeyHeader, len(record.GetData()), RaftKeySize)
	}
	return [RaftKeySize]byte(record.GetData()), true, nil
}

// withRaftKey returns f with another raft key.
func (f keyFile) withRaftKey(key [RaftKeySize]byte) (keyFile, error) {
	raw, err := proto.Marshal(&api.MaybeEncryptedRecord{Algorithm: api.MaybeEncryptedRecord_NONE, Data: key[:]})
	if err != nil {
		return f, model.Errorf(model.Internal, "header %s: %w", raftKeyHeader, err)
	}
	f.headers = maps.Clone(f.headers)
	if f.headers == nil {
		f.headers = make(map[string]string)
	}
	f.headers[raftKeyHeader] = base64.StdEncoding.EncodeToString(raw)
	return f, nil
}
