package quarantine

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A stored body begins with these bytes: a mark, the version of the form, and
// whether it is encrypted. Then come chunks of chunkSize bytes of the compressed
// message, each encrypted by AES-256-GCM with a nonce that counts them; the last,
// shorter or empty, says in its nonce that it is the last. So nothing can be
// changed, exchanged, repeated or cut off unnoticed. The item's id is
// authenticated with each chunk.
const (
	bodyMark    = "PQ"
	bodyVersion = 1
	headSize    = 4
	chunkSize   = 64 << 10
	windowSize  = 512 << 10 // of the compression: it bounds the memory for one body
)

func bodyHead(encrypted bool) []byte {
	head := []byte{bodyMark[0], bodyMark[1], bodyVersion, 0}
	if encrypted {
		head[3] = 1
	}
	return head
}

// chunkNonce returns the nonce of chunk n.
func chunkNonce(n uint64, last bool) []byte {
	nonce := make([]byte, nonceSize)
	binary.BigEndian.PutUint64(nonce[3:], n)
	if last {
		nonce[nonceSize-1] = 1
	}
	return nonce
}

// encoders keeps compressors: each has a megabyte of tables.
var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(windowSize),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return err
	}
	return e
}}

// A packer is the stored form of a message as a reader.
type packer struct {
	from io.Reader
	enc  *zstd.Encoder
	aead cipher.AEAD // nil: not encrypted
	item []byte

	buf    []byte       // what was read last
	packed bytes.Buffer // compressed, not yet encrypted
	out    bytes.Buffer // to be read
	n      uint64       // chunks so far
	done   bool
}

// newPacker reads a message from from. The caller calls free.
func newPacker(from io.Reader, key bodyKey, item string) (*packer, error) {
	p := &packer{from: from, item: []byte(item), buf: make([]byte, 32<<10)}
	if key != nil {
		var err error
		if p.aead, err = key.aead("body"); err != nil {
			return nil, err
		}
	}
	switch e := encoders.Get().(type) {
	case error:
		return nil, e
	case *zstd.Encoder:
		p.enc = e
	}
	p.enc.Reset(&p.packed)
	p.out.Write(bodyHead(p.aead != nil))
	return p, nil
}

func (p *packer) free() {
	p.enc.Reset(nil)
	encoders.Put(p.enc)
}

// Read implements io.Reader.
func (p *packer) Read(b []byte) (int, error) {
	for p.out.Len() == 0 {
		if p.done {
			return 0, io.EOF
		}
		if err := p.fill(); err != nil {
			return 0, err
		}
	}
	return p.out.Read(b)
}

// fill packs the next piece of the message.
func (p *packer) fill() error {
	n, err := p.from.Read(p.buf)
	if _, e := p.enc.Write(p.buf[:n]); e != nil {
		return e
	}
	if errors.Is(err, io.EOF) {
		if err := p.enc.Close(); err != nil {
			return err
		}
		p.done = true
	} else if err != nil {
		return err
	}
	if p.aead == nil {
		_, err := p.packed.WriteTo(&p.out)
		return err
	}
	for p.packed.Len() > chunkSize { // a full chunk is never the last while there may be more
		p.chunk(chunkSize, false)
	}
	if p.done {
		p.chunk(p.packed.Len(), true)
	}
	return nil
}

func (p *packer) chunk(size int, last bool) {
	p.out.Grow(size + p.aead.Overhead())
	p.out.Write(p.aead.Seal(p.out.AvailableBuffer(), chunkNonce(p.n, last), p.packed.Next(size), p.item))
	p.n++
}

// An unsealer decrypts the chunks of a stored body.
type unsealer struct {
	from *bufio.Reader
	aead cipher.AEAD
	item []byte
	buf  []byte
	left []byte // decrypted, not yet read
	n    uint64
	done bool
}

// unseal returns what was encrypted of a stored body: the compressed message.
func unseal(from io.Reader, key bodyKey, item string) (io.Reader, error) {
	r := bufio.NewReaderSize(from, 32<<10)
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, damage(err)
	}
	if !bytes.Equal(head, bodyHead(key != nil)) {
		return nil, fmt.Errorf("%w: its body has another form", ErrDamaged)
	}
	if key == nil {
		return r, nil
	}
	aead, err := key.aead("body")
	if err != nil {
		return nil, err
	}
	return &unsealer{from: r, aead: aead, item: []byte(item), buf: make([]byte, chunkSize+aead.Overhead())}, nil
}

func damage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: its body is cut short", ErrDamaged)
	}
	return err
}

// Read implements io.Reader.
func (u *unsealer) Read(b []byte) (int, error) {
	for len(u.left) == 0 {
		if u.done {
			return 0, io.EOF
		}
		if err := u.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, u.left)
	u.left = u.left[n:]
	return n, nil
}

func (u *unsealer) next() error {
	n, err := io.ReadFull(u.from, u.buf)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		u.done = true
	case err != nil:
		return err
	default:
		_, err := u.from.Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		u.done = err != nil
	}
	plain, err := u.aead.Open(u.buf[:0], chunkNonce(u.n, u.done), u.buf[:n], u.item)
	if err != nil {
		return fmt.Errorf("%w: its body was changed or cut short", ErrDamaged)
	}
	u.left = plain
	u.n++
	return nil
}

// decoders keeps decompressors.
var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowSize))
	if err != nil {
		return err
	}
	return d
}}

// unpack returns the message of a stored body.
func unpack(from io.Reader, key bodyKey, item string) (*zstd.Decoder, error) {
	packed, err := unseal(from, key, item)
	if err != nil {
		return nil, err
	}
	switch d := decoders.Get().(type) {
	case *zstd.Decoder:
		if err := d.Reset(packed); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return d, nil
	case error:
		return nil, d
	}
	return nil, ErrDamaged
}
