// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/printable"
)

// RelayReady is the line that a relay writes once it has the nftproxy of its node; what follows it is the connection's.
const RelayReady = "nftproxy relay 1"

// Bounds of the connections to one node.
const (
	mostConnections = 6 // a process in the pod each
	mostIdle        = 2
	idleTime        = 20 * time.Second // less than that after which nftproxy closes one
	relayTime       = 20 * time.Second // until a relay is ready
	longestGreeting = 4 << 10
)

// Transport returns what asks the nftproxy of a node through relays there, as ask.Transport does here. Connections are used again.
// run runs a relay: it leads its input to nftproxy and what that answers to its output, until its input ends or ctx does.
func Transport(run func(ctx context.Context, s Streams) (code int, err error)) http.RoundTripper {
	return &http.Transport{MaxConnsPerHost: mostConnections, MaxIdleConnsPerHost: mostIdle, IdleConnTimeout: idleTime, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, run) }}
}

// relay is a connection through a relay.
type relay struct {
	net.Conn
	read *bufio.Reader
	end  context.CancelFunc

	mu  sync.Mutex
	err error // why there is no relay any more
}

// Read implements net.Conn.
func (r *relay) Read(p []byte) (int, error) {
	n, err := r.read.Read(p)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err != nil {
			err = r.err
		}
	}
	return n, err
}

// Close implements net.Conn. It ends the relay.
func (r *relay) Close() error {
	r.end()
	return r.Conn.Close()
}

// dial starts a relay, and waits until it is ready.
func dial(ctx context.Context, run func(context.Context, Streams) (int, error)) (net.Conn, error) {
	here, there := net.Pipe()
	running, end := context.WithCancel(context.WithoutCancel(ctx)) // it lasts longer than the question that it was made for
	r := &relay{Conn: here, read: bufio.NewReaderSize(here, longestGreeting), end: end}
	go func() {
		var said Tail
		code, err := run(running, Streams{In: there, Out: there, Err: &said})
		r.ended(code, err, said.Text())
		_ = there.Close()
	}()
	ctx, cancel := context.WithTimeout(ctx, relayTime)
	defer cancel()
	late := context.AfterFunc(ctx, func() { _ = r.Close() })
	line, err := r.read.ReadSlice('\n')
	late()
	if greeting := strings.TrimSuffix(string(line), "\n"); errors.Is(err, bufio.ErrBufferFull) || err == nil && greeting != RelayReady {
		const most = 200
		err = fmt.Errorf("it is no relay: it says %q", printable.Truncated(greeting, most))
	}
	if err == nil {
		return r, nil
	}
	_ = r.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return nil, r.err
	case ctx.Err() != nil:
		return nil, fmt.Errorf("start a relay: %w", ctx.Err())
	}
	return nil, err
}

// ended notes why a relay has ended.
func (r *relay) ended(code int, err error, said string) {
	if err == nil && code == 0 {
		return
	}
	if err == nil {
		err = errors.New(said)
		if said == "" {
			err = fmt.Errorf("the relay ends with code %d", code)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}
