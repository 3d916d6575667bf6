//go:build !linux

package main

// dropStartPages knows no way on this system.
func dropStartPages() {}
