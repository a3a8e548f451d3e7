package node

import (
	"errors"
	"syscall"
)

// full reports whether err is about a disk without space.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// started reports whether the node has begun to be what its certificate says.
func (n *node) started() bool {
	select {
	case <-n.playing:
		return true
	default:
		return false
	}
}
