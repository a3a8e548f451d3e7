package seal

import (
	"encoding/binary"
	"errors"
	"slices"
)

// FrameHeaderSize is the size of what stands before the sealed bytes of a frame.
const FrameHeaderSize = 24

const (
	overhead = 16 // of AES-GCM
	align    = 8
	padding  = 0xEE
)

// What can be at the place of a frame.
var (
	// ErrEnd: nothing was ever written there.
	ErrEnd = errors.New("end of frames")
	// ErrShort: the file ends within the frame.
	ErrShort = errors.New("the file ends within it")
	// ErrChecksum: bytes of the frame are not what was written.
	ErrChecksum = errors.New("wrong checksum")
	// ErrForged: the checksum is right and the frame was still not sealed with this
	// file's key at this place.
	ErrForged = errors.New("it does not decrypt, though its checksum is right")
)

// Frame is one frame of a file.
type Frame struct {
	// Number is the frame's own within its file.
	Number uint32
	// Tag is authenticated and not encrypted.
	Tag uint64
	// Plain is the content.
	Plain []byte
	// Size is how many bytes of the file the frame takes. It is known (not zero) if the
	// frame's header is intact, whatever the error.
	Size int
}

// FrameSize returns how many bytes a frame of n bytes of content takes.
func FrameSize(n int) int {
	end := FrameHeaderSize + n + overhead
	return end + align - end%align
}

// Seal appends a frame with content plain to dst. Number must be new in this file.
func (b *Box) Seal(dst []byte, number uint32, tag uint64, plain []byte) []byte {
	begin := len(dst)
	size := FrameSize(len(plain))
	dst = slices.Grow(dst, size)[:begin+FrameHeaderSize]
	header := dst[begin:]
	binary.LittleEndian.PutUint32(header[0:], uint32(len(plain)+overhead))
	binary.LittleEndian.PutUint32(header[4:], number)
	binary.LittleEndian.PutUint64(header[8:], tag)
	dst = b.aead.Seal(dst, nonce(number), plain, header[:16])
	header = dst[begin:]
	binary.LittleEndian.PutUint32(header[16:], checksum(header[FrameHeaderSize:]))
	binary.LittleEndian.PutUint32(header[20:], checksum(header[:20]))
	for len(dst) < begin+size {
		dst = append(dst, padding)
	}
	return dst
}

// Next opens the frame at the beginning of data, which goes on to the end of the file
// or at least as far as the frame does. The errors are those above.
func (b *Box) Next(data []byte) (Frame, error) {
	header := data[:min(len(data), FrameHeaderSize)]
	if zero(header) {
		return Frame{}, ErrEnd
	}
	if len(header) < FrameHeaderSize {
		return Frame{}, ErrShort
	}
	if binary.LittleEndian.Uint32(header[20:]) != checksum(header[:20]) {
		return Frame{}, ErrChecksum
	}
	sealed := int(binary.LittleEndian.Uint32(header))
	f := Frame{
		Number: binary.LittleEndian.Uint32(header[4:]),
		Tag:    binary.LittleEndian.Uint64(header[8:]),
		Size:   FrameSize(sealed - overhead),
	}
	if sealed < overhead {
		return Frame{}, ErrForged
	}
	if len(data) < f.Size {
		return f, ErrShort
	}
	body := data[FrameHeaderSize : FrameHeaderSize+sealed]
	if binary.LittleEndian.Uint32(header[16:]) != checksum(body) {
		return f, ErrChecksum
	}
	for _, p := range data[FrameHeaderSize+sealed : f.Size] {
		if p != padding {
			return f, ErrChecksum
		}
	}
	plain, err := b.aead.Open(nil, nonce(f.Number), body, header[:16])
	if err != nil {
		return f, ErrForged
	}
	f.Plain = plain
	return f, nil
}

func nonce(number uint32) []byte {
	n := make([]byte, 12)
	binary.LittleEndian.PutUint32(n, number)
	return n
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
