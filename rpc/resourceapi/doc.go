// Package resourceapi serves ResourceAllocator, through which an agent attaches a
// container that it started by itself to a network of the cluster. It is
// registered and answers Unimplemented until there are networks.
package resourceapi
