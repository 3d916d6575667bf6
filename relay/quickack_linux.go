package relay

import "syscall"

// quickAck asks the system to acknowledge at once what has come. A next hop that
// sends each reply of a group apart and leaves Nagle's algorithm on sends the
// second one only when the first is acknowledged, which takes 40 ms otherwise,
// since we have nothing to say meanwhile. It lasts for one packet or so.
func quickAck(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) // a Unix socket has none, and needs none
}
