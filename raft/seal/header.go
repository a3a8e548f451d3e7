package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// HeaderSize is the size of a file's header.
const HeaderSize = 72

const (
	saltAt    = 16
	checkAt   = saltAt + 32
	checkSize = 16
	sumAt     = HeaderSize - 4 // where the header's checksum stands
)

// What can be wrong with a header.
var (
	// ErrForeign: the file is not of this kind.
	ErrForeign = errors.New("it is not a file of this kind")
	// ErrNewer: the file has a format that this release does not know.
	ErrNewer = errors.New("its format is newer than this release knows")
	// ErrKey: the file was sealed with another key.
	ErrKey = errors.New("it was encrypted with another key")
	// ErrHeader: the header is damaged.
	ErrHeader = errors.New("its header is damaged")
)

// Key is a data encryption key.
type Key [32]byte

// Kind is a kind of file.
type Kind struct {
	// Name is what people call it.
	Name string
	// Magic is how its files begin: 8 bytes.
	Magic string
	// Format is the newest format of its content that is known, and the one written.
	Format uint32
}

// Box seals and opens the frames of one file.
type Box struct{ aead cipher.AEAD }

// New returns the header of a new file and the box for its frames.
func New(kind Kind, key Key) ([]byte, *Box, error) {
	header := make([]byte, HeaderSize)
	copy(header, kind.Magic)
	binary.LittleEndian.PutUint32(header[8:], kind.Format)
	if _, err := rand.Read(header[saltAt:checkAt]); err != nil {
		return nil, nil, fmt.Errorf("draw a salt: %w", err)
	}
	box, check, err := derive(kind, key, header[saltAt:checkAt])
	if err != nil {
		return nil, nil, err
	}
	copy(header[checkAt:checkAt+checkSize], check)
	binary.LittleEndian.PutUint32(header[sumAt:], checksum(header[:sumAt]))
	return header, box, nil
}

// Open returns the box for the frames of the file that begins with header, and the
// format of its content. Its errors wrap one of those above.
func Open(kind Kind, key Key, header []byte) (*Box, uint32, error) {
	switch {
	case len(header) < len(kind.Magic):
		return nil, 0, fmt.Errorf("%w: it has %d bytes", ErrHeader, len(header))
	case !bytes.HasPrefix(header, []byte(kind.Magic)):
		return nil, 0, ErrForeign
	case len(header) < HeaderSize:
		return nil, 0, fmt.Errorf("%w: it has %d bytes", ErrHeader, len(header))
	case binary.LittleEndian.Uint32(header[sumAt:]) != checksum(header[:sumAt]):
		return nil, 0, fmt.Errorf("%w: wrong checksum", ErrHeader)
	}
	format := binary.LittleEndian.Uint32(header[8:])
	if format == 0 || format > kind.Format {
		return nil, format, fmt.Errorf("%w: %d, at most %d", ErrNewer, format, kind.Format)
	}
	box, check, err := derive(kind, key, header[saltAt:checkAt])
	if err != nil {
		return nil, format, err
	}
	if subtle.ConstantTimeCompare(check, header[checkAt:checkAt+checkSize]) != 1 {
		return nil, format, ErrKey
	}
	return box, format, nil
}

func derive(kind Kind, key Key, salt []byte) (box *Box, check []byte, err error) {
	secret, err := hkdf.Key(sha256.New, key[:], salt, kind.Magic, 32+checkSize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of a file: %w", err)
	}
	block, err := aes.NewCipher(secret[:32])
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of a file: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of a file: %w", err)
	}
	return &Box{aead}, secret[32:], nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
