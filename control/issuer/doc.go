// Package issuer signs the certificates that nodes wait for.
//
// It reads the cluster (root, key, lifetime) and nodes; it writes a node's
// certificate: the chain and ISSUED, or FAILED with the reason. What to sign is
// a pure plan over nodes in state PENDING that were accepted, and RENEW; ROTATE
// is the node's to act on. Signing is an effect: several at once, at most one
// for each processor, outside every lock, and each result is a transaction of
// its own that shares its commit with others. When there is no key, or the store
// does not take the result, the runner tries again; a request that cannot be
// signed is FAILED.
package issuer
