// Package ca is the identity of nodes: roots, certificates, join tokens, the
// files that keep them and the TLS that uses them.
//
// A cluster has one Root, made once by its first manager; its key lives in the
// cluster object only and is used through a Signer. The cluster's ID is the
// organization (O) of every certificate, the role its organizational unit (OU),
// the node's ID its common name (CN).
//
// What makes and checks certificates takes the time as an argument; keys, serial
// numbers and tokens come from crypto/rand. Identity holds what a node is at this
// moment and may be replaced while connections are open; new handshakes see the
// new one. Files writes each file atomically, so
// that after a crash a node finds its old identity or its new one, never half
// of either. With an unlock key (Files.SetKEK) the node key is encrypted PKCS#8 (PBES2,
// which openssl reads too) and the raft log's keys are sealed by secretbox; whatever
// moment the machine stops at, the key file opens with exactly one of the old and the
// new unlock key, and no key of the raft log is lost. Renewer has the only goroutine shape here, Run(ctx).
//
// Join tokens and keys are secrets: they print as "[secret]" and are compared in
// constant time. Errors name what was read, why it is refused and what to do.
package ca
