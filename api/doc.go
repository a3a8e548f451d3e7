// Package api is the wire contract docker.swarmkit.v1: messages, enums and
// services, a .proto file for each subject, and the Go made from them.
//
// Words only: rules about them live in package model. Field numbers and names
// are those of the contract and never change; fields of our own never enter
// these messages (see package skep for those). Unknown fields survive a round trip.
package api
