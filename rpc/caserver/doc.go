// Package caserver answers the services CA and NodeCA: it hands out the root,
// takes certificate requests and tells what came of them.
//
// It reads clusters and nodes, as committed. It writes nodes: a new one for a
// request with a join token, the certificate's request of an existing one for a
// renewal; the signature is control/issuer's. It keeps nothing of its own but a
// count of who waits, and starts no goroutine.
//
// Who asks is taken from the connection. A caller with a certificate of this
// swarm renews its own and nothing else, with the role that the store says; a
// token is never looked at then. Whoever joins gets the role of the token that it
// shows; the manager's needs a node that says that it is one of ours. Tokens are compared in constant time and never
// logged. A request that is refused changes nothing.
package caserver
