//go:build linux && (amd64 || arm64 || riscv64) && !race

package socket

import (
	"net"
	"syscall"
	"unsafe"
)

// Read reads once from a socket that does not block. There is nothing yet if the
// error is EAGAIN, and nothing more to come if n is 0 without an error.
func Read(fd uintptr, p []byte) (n int, err error) {
	for {
		r, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if e == 0 {
			return int(r), nil
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}

// Waiting reports whether a socket has something to read, or was closed by the
// other end.
func Waiting(fd uintptr) (octets, closed bool) {
	var b byte
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if e != syscall.EINTR {
			return e == 0 && n > 0, e == 0 && n == 0 || e != 0 && e != syscall.EAGAIN
		}
	}
}

// write writes once to a socket that does not block: as much as it takes of p
// and of what comes after it.
func write(fd uintptr, p []byte, more net.Buffers) (n int, err error) {
	if len(more) == 0 {
		return writeOne(fd, p)
	}
	var vectors [8]syscall.Iovec
	vectors[0].Base = unsafe.SliceData(p)
	vectors[0].SetLen(len(p))
	count := 1
	for _, b := range more[:min(len(more), len(vectors)-1)] {
		vectors[count].Base = unsafe.SliceData(b)
		vectors[count].SetLen(len(b))
		count++
	}
	for {
		r, _, e := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vectors)), uintptr(count))
		if e == 0 {
			return int(r), nil
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}

func writeOne(fd uintptr, p []byte) (n int, err error) {
	for {
		r, _, e := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if e == 0 {
			return int(r), nil
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}
