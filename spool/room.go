package spool

// Room reports whether a message of that size, zero if it is not known, may be
// received now without reaching into the reserve. When the disk cannot be asked
// there is none.
func (s *Spool) Room(size int64) bool { return s.checkFree(size) == nil }
