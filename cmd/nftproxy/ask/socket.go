// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/bounded"
)

// DefaultSocket is where nftproxy is asked; TABLE stands for the name of its tables.
const DefaultSocket = "/run/nftproxy/TABLE.sock"

// Path returns the socket's path for a name of tables.
func Path(socket, table string) string { return strings.ReplaceAll(socket, "TABLE", table) }

// mostClients is how many connections there are at most; a new one takes the place of an old one.
const mostClients = 32

// Serve answers at a socket until ctx ends; ready is called once it does. It makes the directory if there is none, takes the place
// of a socket that nobody has any more or that a nftproxy before it in this network namespace had, and takes it away at the end.
// It fails where another network namespace's nftproxy answers there.
func (d *Daemon) Serve(ctx context.Context, path string, ready func()) error {
	l, err := listen(ctx, path)
	if err != nil {
		return fmt.Errorf("make the socket %s: %w", printable.Line(path), err)
	}
	server := bounded.NewPool(mostClients).Server(d.Handler())
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	defer l.remove()
	ready()
	if err := server.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("answer at the socket %s: %w", printable.Line(path), err)
	}
	return nil
}

// socket is a listener that lets in who may ask.
type socket struct {
	*net.UnixListener
	path string
	file os.FileInfo
}

// listen makes a socket under another name and then gives it its own, so that there is one at any time.
func listen(ctx context.Context, path string) (*socket, error) {
	if v, err := (&Client{path}).Version(ctx); err == nil && v.Namespace != networkNamespace() {
		return nil, errors.New("the nftproxy of another network namespace answers there: --socket chooses another path, or none ('')")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the socket is for root alone, whoever may see it
		return nil, fmt.Errorf("%w: --socket chooses another path, or none ('')", err)
	}
	first := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(first) // of a process of the same number that was killed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: first, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	file, err := os.Lstat(first)
	if err == nil {
		err = os.Chmod(first, 0o600)
	}
	if err == nil {
		err = os.Rename(first, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(first)
		return nil, err
	}
	return &socket{l, path, file}, nil
}

// remove takes the socket away, if it is not another one's by now.
func (s *socket) remove() {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path)
	}
}

// Accept implements net.Listener. Who is neither root nor this user is not let in.
func (s *socket) Accept() (net.Conn, error) {
	for {
		c, err := s.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if trusted(c) == nil {
			return c, nil
		}
		_ = c.Close()
	}
}

// errStranger is why a peer is not believed.
var errStranger = errors.New("who is at the socket is neither root nor this user")

// trusted says why the other end of a connection is not believed: it is neither root's nor this user's.
func trusted(c *net.UnixConn) error {
	uid, err := peer(c)
	if err != nil {
		return fmt.Errorf("find out whose process is at the socket: %w", err)
	}
	if uid != 0 && uid != os.Getuid() {
		return fmt.Errorf("%w: a process of user %d", errStranger, uid)
	}
	return nil
}

// networkNamespace names this process's network namespace; empty: it is not known.
func networkNamespace() string {
	name, _ := os.Readlink("/proc/self/ns/net")
	return name
}
