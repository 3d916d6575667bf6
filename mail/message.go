package mail

import (
	"io"
	"time"
)

// SKELETON: see contract. The mail helper replaces this file.

type PartID string
type Limits struct {
	Depth, Parts, Fields      int
	HeaderBytes, DecodedBytes int64
	Time                      time.Duration
}
type Message struct{}

func (m *Message) Reader() io.Reader { return nil }
func (m *Message) Size() int64       { return 0 }
