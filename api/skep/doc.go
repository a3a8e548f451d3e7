// Package skep is skep.v1: the messages and services that are Skep's own,
// beside the contract in package api.
package skep
