package model

import (
	"io"
	"math/big"
)

// IDLength is the number of characters of every object ID.
const IDLength = 25

// NewID makes an object ID from 17 bytes of random: base 36, lower case, 25
// characters. It panics when random fails, which crypto/rand.Reader never does.
func NewID(random io.Reader) string {
	var raw [17]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		panic("model: no randomness: " + err.Error())
	}
	raw[0] |= 0x80 // so that every ID has the same length
	var n big.Int
	n.SetBytes(raw[:])
	return n.Text(36)[1 : IDLength+1]
}
