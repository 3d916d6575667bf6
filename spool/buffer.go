package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// The sizes of a Buffer's memory. A Buffer grows from one to the next, so that
// its bytes are always in one piece, which is what the parser likes best.
var memorySizes = [...]int{16 << 10, 64 << 10, 256 << 10}

var memoryPools [len(memorySizes)]sync.Pool

// writeBuffer is how much a Buffer that lies in a file gathers before it writes:
// the size of its pieces but for the last.
const writeBuffer = 64 << 10

// freeCheck is how much a Buffer writes to its file between two looks at the
// free space.
const freeCheck = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Buffer receives the content of one message: in memory up to
// Options.Memory, then in a file in the spool's tmp directory. Nothing in it
// is durable before Commit.
//
// Write must not be called at the same time as any other method. Once the
// message is complete, the reading methods may be called from many goroutines.
// Its memory is used again after Discard, so whoever may read longer than the
// one who calls Discard must hold the Buffer with Retain.
type Buffer struct {
	s       *Spool
	mem     []byte // content while it is small; after that what is not yet in the file
	file    file   // nil while in memory
	name    string // path of the file
	flushed int64  // bytes in the file
	checked int64  // bytes in the file at the last look at the free space
	crc     uint32 // of the bytes in the file
	err     error  // of a write: the Buffer is of no use any more
	dotless bool

	holders atomic.Int32
	sum     sync.Once
	sha     [32]byte

	commit sync.Mutex // one Commit at a time makes the file a body
	body   *body      // set once the file lies in the body directory
	bad    error      // that failed: the file is not trusted any more
}

// Buffer returns an empty Buffer. The caller must Discard it.
func (s *Spool) Buffer() *Buffer {
	b := &Buffer{s: s}
	b.holders.Store(1)
	return b
}

// Write appends p. An error that is ErrFull means that free space is below the
// reserve; after any error the Buffer can only be discarded.
func (b *Buffer) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.file == nil {
		if len(b.mem)+len(p) <= b.s.opt.Memory {
			b.grow(len(p))
			b.mem = append(b.mem, p...)
			return len(p), nil
		}
		if b.err = b.spill(); b.err != nil {
			return 0, b.err
		}
	}
	for rest := p; len(rest) > 0; {
		// Whole pieces at offsets that are multiples of their size: the system
		// takes them in larger pages.
		if len(b.mem) == 0 && len(rest) >= writeBuffer {
			n := len(rest) - len(rest)%writeBuffer
			if b.err = b.write(rest[:n]); b.err != nil {
				return 0, b.err
			}
			rest = rest[n:]
			continue
		}
		n := min(len(rest), writeBuffer-len(b.mem))
		b.mem = append(b.mem, rest[:n]...)
		rest = rest[n:]
		if len(b.mem) == writeBuffer {
			if b.err = b.flush(); b.err != nil {
				return 0, b.err
			}
		}
	}
	return len(p), nil
}

// SetDotless notes that no line of the content begins with a dot. Whoever
// receives content by DATA knows that from the dots that it has taken off.
func (b *Buffer) SetDotless() { b.dotless = true }

// Dotless reports whether it is known that no line begins with a dot.
func (b *Buffer) Dotless() bool { return b.dotless }

// grow makes room for n more bytes in memory.
func (b *Buffer) grow(n int) {
	if len(b.mem)+n <= cap(b.mem) {
		return
	}
	m := takeMemory(len(b.mem) + n)
	m = append(m, b.mem...)
	giveMemory(b.mem)
	b.mem = m
}

// spill moves the content from memory to a new file.
func (b *Buffer) spill() error {
	if err := b.s.checkFree(0); err != nil {
		return err
	}
	name := filepath.Join(b.s.tmpDir(), b.s.nextName())
	f, err := b.s.disk.Open(name, os.O_CREATE|os.O_EXCL|os.O_RDWR)
	if err != nil {
		return fmt.Errorf("create buffer file: %w", fullOr(err))
	}
	b.file, b.name = f, name
	all := b.mem
	n := len(all) - len(all)%writeBuffer
	if n > 0 {
		if err := b.write(all[:n]); err != nil {
			return err
		}
	}
	b.mem = append(takeMemory(writeBuffer), all[n:]...)
	giveMemory(all)
	return nil
}

func (b *Buffer) flush() error {
	if b.file == nil || len(b.mem) == 0 {
		return nil
	}
	p := b.mem
	b.mem = b.mem[:0]
	return b.write(p)
}

func (b *Buffer) write(p []byte) error {
	if b.flushed-b.checked >= freeCheck {
		if err := b.s.checkFree(0); err != nil {
			return err
		}
		b.checked = b.flushed
	}
	n, err := b.file.Write(p)
	b.flushed += int64(n)
	b.crc = crc32.Update(b.crc, castagnoli, p[:n])
	if err != nil {
		return fmt.Errorf("write buffer file: %w", fullOr(err))
	}
	return nil
}

// Size returns the number of bytes written so far.
func (b *Buffer) Size() int64 { return b.flushed + int64(len(b.mem)) }

// Bytes returns the content without a copy; false if it lies in a file or a
// Write failed. The
// slice must not be changed, and not be used after Discard.
func (b *Buffer) Bytes() ([]byte, bool) {
	if b.file != nil || b.err != nil {
		return nil, false
	}
	return b.mem, true
}

// ReaderAt returns a reader over the complete content: nothing may be written
// any more. It fails after the last Discard.
func (b *Buffer) ReaderAt() io.ReaderAt {
	if b.err == nil && b.file != nil && len(b.mem) > 0 {
		b.err = b.flush()
	}
	return b
}

// Reader returns a reader over the complete content.
func (b *Buffer) Reader() io.Reader {
	return io.NewSectionReader(b.ReaderAt(), 0, b.Size())
}

// ReadAt reads the complete content. It is the method of the reader that
// ReaderAt returns; call that first.
func (b *Buffer) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case b.holders.Load() <= 0:
		return 0, os.ErrClosed
	case b.err != nil:
		return 0, b.err
	case b.file != nil:
		return b.file.ReadAt(p, off)
	case off < 0:
		return 0, errors.New("read buffer: negative offset")
	case off >= int64(len(b.mem)):
		return 0, io.EOF
	}
	n := copy(p, b.mem[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Open opens the file in which the complete content lies, for who can have the
// system send it. There is none while it is in memory, or part of the spool.
func (b *Buffer) Open() (*os.File, error) {
	if _, ok := b.file.(osFile); !ok || b.err != nil {
		return nil, os.ErrNotExist
	}
	return os.Open(b.name)
}

// SHA256 returns the hash of the complete content. It is computed at the first
// call: mail that nobody asks the hash of does not pay for it. If the content
// cannot be read the hash is zero, and so is every later one.
func (b *Buffer) SHA256() [32]byte {
	b.sum.Do(func() {
		if p, ok := b.Bytes(); ok {
			b.sha = sha256.Sum256(p)
			return
		}
		h := sha256.New()
		if _, err := io.Copy(h, b.Reader()); err == nil {
			h.Sum(b.sha[:0])
		}
	})
	return b.sha
}

// Retain adds a holder: one more Discard is needed to free the Buffer.
func (b *Buffer) Retain() { b.holders.Add(1) }

// Discard ends the use of the Buffer by one holder. The last one gives its
// memory back and removes its file, unless a Commit has made it part of the
// spool.
func (b *Buffer) Discard() {
	if b.holders.Add(-1) != 0 {
		return
	}
	giveMemory(b.mem)
	b.mem = nil
	if b.file == nil {
		return
	}
	b.file.Close()
	if b.body != nil {
		b.s.letGo(b.body)
		return
	}
	if err := b.s.disk.Remove(b.name); err != nil {
		b.s.log.Warn("cannot remove buffer file", "file", b.name, "err", err)
	}
}

// takeMemory returns an empty slice with room for n bytes.
func takeMemory(n int) []byte {
	for i, size := range memorySizes {
		if n <= size {
			if p, ok := memoryPools[i].Get().(*[]byte); ok {
				return (*p)[:0]
			}
			return make([]byte, 0, size)
		}
	}
	return make([]byte, 0, n)
}

// giveMemory gives back what takeMemory returned.
func giveMemory(m []byte) {
	for i, size := range memorySizes {
		if cap(m) == size {
			m = m[:0]
			memoryPools[i].Put(&m)
			return
		}
	}
}
