package process

import "os"

// pipePair is both ends of a pipe.
type pipePair struct{ read, write *os.File }

func newPipe() (pipePair, error) {
	read, write, err := os.Pipe()
	return pipePair{read, write}, err
}

// close closes the ends that are still open.
func (p pipePair) close() {
	_ = p.read.Close()
	_ = p.write.Close()
}
