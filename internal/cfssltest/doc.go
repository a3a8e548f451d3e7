// Package cfssltest is an external CA for tests: a small server of the CFSSL
// protocol over mutual TLS, with a root and its key. It signs what it is asked for:
// node certificates with the subject and hosts of the request, and CAs under the
// profile "CA". It reads and keeps nothing, trusts clients whose certificates lead to
// one of its roots, may be asked by many at once, and answers what it cannot sign
// with an error of the protocol and HTTP status 400.
package cfssltest
