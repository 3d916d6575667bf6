//go:build unix && (!linux || !(amd64 || arm64 || riscv64) || race)

// Elsewhere, and for the race detector, which must know what passes through a
// socket, the calls have their hooks.

package socket

import (
	"net"
	"syscall"
)

// Read reads once from a socket that does not block. There is nothing yet if the
// error is EAGAIN, and nothing more to come if n is 0 without an error.
func Read(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Waiting reports whether a socket has something to read, or was closed by the
// other end.
func Waiting(fd uintptr) (octets, closed bool) {
	var b [1]byte
	for {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return err == nil && n > 0, err == nil && n == 0 || err != nil && err != syscall.EAGAIN
		}
	}
}

// write writes once to a socket that does not block: as much as it takes of p.
func write(fd uintptr, p []byte, _ net.Buffers) (n int, err error) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
