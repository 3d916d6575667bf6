package main

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// dropStartPages takes the program's own code and constants out of this process's
// memory. Most of them were needed for the start only; the system reads again,
// from its cache of the file, what is needed later. Nothing is lost where that
// fails, so it has no error.
func dropStartPages() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		// address perms offset dev inode pathname (proc(5)); only what cannot be
		// written, so that each page is what the file has.
		f := bytes.Fields(line)
		if len(f) != 6 || string(f[5]) != program || f[1][1] != '-' || f[1][3] != 'p' {
			continue
		}
		from, to, _ := bytes.Cut(f[0], []byte{'-'})
		a, errA := strconv.ParseUint(string(from), 16, 64)
		b, errB := strconv.ParseUint(string(to), 16, 64)
		if errA != nil || errB != nil || b <= a {
			continue
		}
		syscall.Syscall(syscall.SYS_MADVISE, uintptr(a), uintptr(b-a), syscall.MADV_DONTNEED)
	}
}
