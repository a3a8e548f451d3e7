// Package recovery answers the service skep.v1.Recovery: a node whose certificate
// expired while it was down gets a new one.
//
// Whoever asks has no certificate that a handshake would take. It is the node that
// it says when its request is signed by the key of the certificate that the store
// holds for that node. ID and role stay what the store says. It is refused for a
// node that is not in the store or was removed, for another key (all three in the
// same words), for a certificate that expired 90 days ago, and for one that has
// not expired: that node renews as everybody does.
//
// It reads nodes, as committed, and writes the certificate request of one; the
// signature is control/issuer's. Requests are limited for each address that they
// come from. It starts no goroutine.
package recovery
