package main

import "syscall"

// reserveShare is the part of a file system that may be kept free at most: on a
// small one the default reserve would leave no room for mail.
const reserveShare = 20

// reserve returns how much space to keep free below dir: what the policy wants,
// and at most a twentieth of the file system.
func reserve(dir string, want int64) int64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return want
	}
	return min(want, int64(fs.Blocks)*int64(fs.Bsize)/reserveShare)
}
