package store

// NewCounts returns the view that the metrics read.
func NewCounts() View { return newCounts() }
