// Package storetest holds the one suite that every view is held to, and random
// histories of a store to hold it against.
//
// A view whose state does not compare with reflect.DeepEqual has a method
// Equal(store.View) bool.
package storetest
