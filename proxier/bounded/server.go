// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"context"
	"net"
	"net/http"
	"time"
)

// What a client may take of a server. A scrape of /metrics is the longest answer; whoever keeps a
// connection for later may have to make a new one.
const (
	maxHeader     = 8 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 30 * time.Second
)

// Server is an http.Server with bounds, whose connections are in a Pool.
type Server struct {
	http http.Server
	pool *Pool
}

// Server returns a server with a handler.
func (p *Pool) Server(h http.Handler) *Server {
	return &Server{pool: p, http: http.Server{
		Handler: paced(h), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}}
}

// Serve answers at a listener until Close; it closes the listener.
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(s.pool.Listener(l)) }

// Close ends all connections and all that Serve does.
func (s *Server) Close() error { return s.http.Close() }

// connKey is where a request's context has its *Conn.
type connKey struct{}

// paced notes which connections are being answered, and bounds how long that may take.
func paced(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*Conn); ok {
			c.progress(true)
			defer c.progress(false)
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		h.ServeHTTP(w, r)
	})
}

// Unhurried serves what takes as long as the client asks for, such as a profile.
func Unhurried(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
		h.ServeHTTP(w, r)
	})
}
