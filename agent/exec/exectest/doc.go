// Package exectest holds the promises of package exec as one suite of tests
// that every executor passes.
//
// An executor's own test describes a Machine and calls Run:
//
//	func TestKeepsThePromisesOfExec(t *testing.T) {
//		exectest.Run(t, func(t *testing.T) exectest.Machine { return newMachine(t) })
//	}
package exectest
