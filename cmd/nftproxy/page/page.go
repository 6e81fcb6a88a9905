// SPDX-License-Identifier: Apache-2.0

package page

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"

	"github.com/nftproxy/nftproxy/proxier/bounded"
)

//go:embed assets
var assets embed.FS

// Node is an nftproxy that can be looked at.
type Node struct {
	Name string
	// API answers requests for http://nftproxy/v1/..., as ask.Transport does. It is asked from several goroutines.
	API http.RoundTripper
	// Trace follows connections to a Service, at an ADDRESS:PORT of it alone if at is not empty, and writes an object for each as
	// `nftproxy trace -o json` does, until ctx ends or w fails. Nil: it cannot be done.
	Trace func(ctx context.Context, service, at string, w io.Writer) error
}

// Page is the page, at an address of its own.
type Page struct {
	nodes    []Node
	version  string
	token    string
	listener net.Listener
	traces   chan struct{}
}

// mostClients is how many connections a browser may have, and mostTraces how many of them follow connections.
const (
	mostClients = 64
	mostTraces  = 2
)

// Listen prepares the page of some nodes, of which there is one at least, at an ADDRESS:PORT of loopback. Port 0 is any.
func Listen(address, version string, nodes []Node) (*Page, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q is not ADDRESS:PORT: %w", address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%q is not an address of loopback, such as 127.0.0.1:0: the page is for this machine alone", host)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the page: %w", err)
	}
	token := make([]byte, 24)
	_, _ = rand.Read(token) // it does not fail
	return &Page{nodes, version, base64.RawURLEncoding.EncodeToString(token), l, make(chan struct{}, mostTraces)}, nil
}

// URL returns where the page is: whoever knows it may look.
func (p *Page) URL() string { return "http://" + p.listener.Addr().String() + "/" + p.token + "/" }

// Serve serves the page until ctx ends.
func (p *Page) Serve(ctx context.Context) error {
	server := bounded.NewPool(mostClients).Server(p.Handler())
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(p.listener); ctx.Err() == nil {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

// Handler answers for the page, under its token.
func (p *Page) Handler() http.Handler {
	files, _ := fs.Sub(assets, "assets") // it is there
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /nodes", p.list)
	mux.HandleFunc("GET /api/{node}/v1/{path...}", p.api)
	mux.HandleFunc("GET /trace/{node}", p.trace)
	return guard(p.token, p.listener.Addr().String(), mux)
}
