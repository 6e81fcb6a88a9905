// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPeer: another user is not let in, whatever the file's mode, nor is what he serves believed.
func TestPeer(t *testing.T) {
	d := daemon(t, 2)
	c := served(t, d)
	for path := c.path; path != filepath.Dir(os.TempDir()) && path != os.TempDir(); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil { // he gets as far as the socket
			t.Fatal(err)
		}
	}
	l, err := asStranger(c.path, c.path+".sham")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		t.Skip("becoming another user takes root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	if _, err := Dial(t.Context(), c.path+".sham", d.Table); !errors.Is(err, errStranger) {
		t.Errorf("a stranger's socket: %v", err)
	}
}

// asStranger asks at a socket as another user, which must not be answered, and listens at another one.
func asStranger(path, sham string) (l net.Listener, err error) {
	const other = 65534
	done := make(chan struct{})
	go func() { // on a thread that ends with it, and that is another user's
		defer close(done)
		runtime.LockOSThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, other, other, other); errno != 0 {
			err = errno
			return
		}
		var conn net.Conn
		if conn, err = net.Dial("unix", path); err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /v1/version HTTP/1.0\r\n\r\n")
		text, rerr := io.ReadAll(conn)
		if errors.Is(rerr, unix.ECONNRESET) {
			rerr = nil
		}
		if len(text) > 0 || rerr != nil {
			err = errors.Join(fmt.Errorf("a stranger is answered %q", text), rerr)
			return
		}
		l, err = net.Listen("unix", sham)
	}()
	<-done
	return l, err
}
