// Package built hands tests the binaries that `make interop` has built. It
// builds nothing itself: a test that finds none fails and says so.
package built
