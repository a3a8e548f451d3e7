// Package seal is the envelope that the raft log and snapshot files share: a header
// that names kind, format and key, and frames that are encrypted, authenticated and
// checksummed one by one.
//
// A header is 72 bytes, integers little endian:
//
//	magic 8 | format 4 | zero 4 | salt 32 | key check 16 | zero 4 | CRC-32C of these 4
//
// The salt is random and new for every file. Key and key check are HKDF-SHA256 of the
// data encryption key, the salt and the kind's magic. So no two files share a key, two
// that grew out of one restored backup neither, and frame numbers may serve as nonces.
//
// A frame is a multiple of 8 bytes:
//
//	size 4 | number 4 | tag 8 | CRC-32C of sealed 4 | CRC-32C of these 20 bytes 4 |
//	sealed, size bytes | 1 to 8 bytes 0xEE
//
// Sealed is AES-256-GCM of the content; nonce is the number, additional data the first
// 16 bytes of the frame. The checksums tell a disk that altered bytes from a wrong key
// or a forger. Padding is never zero, so a frame of which the end was not written can
// be told from one that was altered.
//
// The package keeps no state of files: what numbers and tags mean is up to the caller,
// who must never seal two frames of one file with the same number.
package seal
