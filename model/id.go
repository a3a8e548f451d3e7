package model

import (
	"encoding/binary"
	"io"
)

// IDLength is the number of characters of every object ID.
const IDLength = 25

const (
	digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	// A number of 136 bits whose highest is set has this many digits in base 36.
	idDigits = 27
	// Digits are taken off a number in groups of five: 36⁵ is below 2³², so that a
	// group costs one pass over the number.
	group     = 5
	groupSize = 36 * 36 * 36 * 36 * 36
)

// NewID makes an object ID from 17 bytes of random: base 36, lower case, 25
// characters. It panics when random fails, which crypto/rand.Reader never does.
func NewID(random io.Reader) string {
	var raw [20]byte // a whole number of limbs; the first three bytes stay 0
	if _, err := io.ReadFull(random, raw[3:]); err != nil {
		panic("model: no randomness: " + err.Error())
	}
	raw[3] |= 0x80 // so that every ID has the same length
	var limbs [5]uint32
	for i := range limbs {
		limbs[i] = binary.BigEndian.Uint32(raw[4*i:])
	}
	var text [idDigits + group]byte
	for end := len(text); end > group-1; end -= group {
		rest := uint64(0)
		for i, limb := range limbs {
			rest = rest<<32 | uint64(limb)
			limbs[i], rest = uint32(rest/groupSize), rest%groupSize
		}
		for i := 1; i <= group; i++ {
			text[end-i] = digits[rest%36]
			rest /= 36
		}
	}
	// The first digit is hardly random and the last is one too many.
	first := len(text) - idDigits + 1
	return string(text[first : first+IDLength])
}
