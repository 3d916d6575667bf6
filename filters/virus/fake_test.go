package virus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// A fake is a clamd that behaves as told.
type fake struct {
	listener net.Listener
	streams  atomic.Int32 // INSTREAM commands
	sessions atomic.Int32 // connections
	limit    int          // StreamMaxLength; 0: none
	once     bool         // closes the connection after each stream
	hang     bool         // reads everything and says nothing
	reply    func(number int, content []byte) string
}

// honest finds EVIL.
func honest(number int, content []byte) string {
	if bytes.Contains(content, []byte("EVIL")) {
		return fmt.Sprintf("%d: stream: Test.Evil FOUND\x00", number)
	}
	return fmt.Sprintf("%d: stream: OK\x00", number)
}

// startFake serves on a Unix socket and returns the engine setting for it.
func startFake(t testing.TB, f *fake) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ctl")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f.listener = l
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.sessions.Add(1)
			go f.serve(conn)
		}
	}()
	return "clamd:" + path
}

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for number := 0; ; {
		command, err := r.ReadString(0)
		switch {
		case err != nil:
			return
		case command == "zIDSESSION\x00":
			continue
		case command != "zINSTREAM\x00":
			io.WriteString(conn, "UNKNOWN COMMAND\x00")
			return
		}
		number++
		f.streams.Add(1)
		content, over, err := f.stream(r)
		if err != nil {
			return
		}
		if over {
			fmt.Fprintf(conn, "%d: INSTREAM size limit exceeded. ERROR\x00", number)
			return
		}
		if f.hang {
			r.ReadByte()
			return
		}
		if io.WriteString(conn, f.reply(number, content)); f.once {
			return
		}
	}
}

// stream reads the chunks of one stream, up to the limit.
func (f *fake) stream(r io.Reader) (content []byte, over bool, err error) {
	for {
		var n uint32
		if err := binary.Read(r, binary.BigEndian, &n); err != nil || n == 0 {
			return content, false, err
		}
		part := make([]byte, n)
		if _, err := io.ReadFull(r, part); err != nil {
			return content, false, err
		}
		if content = append(content, part...); f.limit > 0 && len(content) > f.limit {
			return content, true, nil
		}
	}
}
