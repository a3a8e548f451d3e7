// Package rpc is the gRPC server and its interceptors, in this order: recover,
// observe, identify, authorize, route. NewServer is the only place in the tree
// that makes a grpc.Server.
//
// Promises:
//   - A method that declares no rule (docker.protobuf.plugin.tls_authorization)
//     or has no route in this package's table does not start: NewServer fails.
//   - Who calls comes from the verified certificate, or is this machine's own
//     identity for the unix socket. Whether they may is asked of the
//     certificate and of the store, for each request, and again for each message
//     that goes out on a stream.
//   - A stream ends when its caller, or the manager that passes it on, is removed or
//     demoted so that it may not have it any more, at once, also when nothing is said
//     on it: with PermissionDenied, or Canceled where the handler waits for a message.
//     A connection ends with the certificate of its client.
//   - Handlers return errors of package model (or gRPC statuses of their own);
//     kinds become codes in one place. A panic fails its own request only.
//   - A request whose route needs a leader waits for one until its deadline, at
//     most LeaderWait, woken by the election, then answers Unavailable.
//   - A request passed on to the leader is the original caller's there, of the socket
//     the manager's own. It is repeated only where nothing was done, and served here when
//     this manager came to lead meanwhile; a write whose connection broke off after it was
//     sent has an unknown outcome. What is passed on ends with the leadership of whom it was
//     passed on to: streams at once, a request within LeaderWait.
//   - Who says for whom it asks and is no manager of this swarm is refused, and nobody
//     where everybody may ask.
//   - Messages of streams, and answers, are passed on as they came, byte by byte: what a
//     manager does not know it does not lose.
//   - A method that is answered locally takes no caller that a manager speaks for.
//   - A connection whose other end is gone is closed within 15 seconds.
//
// A server owns a few goroutines from NewServer on. Stop ends them, also when it
// never served, and waits for handlers.
package rpc
