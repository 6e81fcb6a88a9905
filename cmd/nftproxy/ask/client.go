// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
)

// Client asks at a socket.
type Client struct{ path string }

// maxAnswer bounds what is read of an answer, and answerTime how long one may take.
const (
	maxAnswer  = 64 << 20
	answerTime = 30 * time.Second
)

// Refused is an answer that is none: its HTTP status, and why.
type Refused struct {
	Status int
	Text   string
}

// Error implements error.
func (e *Refused) Error() string { return e.Text }

// Dial returns a client for the nftproxy of this network namespace that writes the tables of a name. It fails if none answers at
// the socket that can be believed.
func Dial(ctx context.Context, path, table string) (*Client, error) {
	c := &Client{path}
	v, err := c.Version(ctx)
	if err != nil {
		return nil, err
	}
	if v.Table != table || v.Namespace != networkNamespace() {
		return nil, fmt.Errorf("at %s answers the nftproxy of table %s in %s", path, v.Table, v.Namespace)
	}
	return c, nil
}

// Version asks who answers.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	return v, c.get(ctx, "/v1/version", nil, &v)
}

// Service asks for one Service.
func (c *Client) Service(ctx context.Context, namespace, name string) (s Service, err error) {
	return s, c.get(ctx, "/v1/services/"+url.PathEscape(namespace)+"/"+url.PathEscape(name), nil, &s)
}

// Services asks for all Services, of a namespace if it is not empty.
func (c *Client) Services(ctx context.Context, namespace string) (out []Service, err error) {
	return out, pages(ctx, c, "/v1/services", url.Values{"namespace": {namespace}}, func(page *Services) string {
		out = append(out, page.Services...)
		return page.Continue
	})
}

// Endpoints asks for the endpoints of a Service, or without a name for those of all, of a namespace if it is not empty.
func (c *Client) Endpoints(ctx context.Context, namespace, name string) (out []Endpoint, err error) {
	return out, pages(ctx, c, "/v1/endpoints", url.Values{"namespace": {namespace}, "name": {name}}, func(page *Endpoints) string {
		out = append(out, page.Endpoints...)
		return page.Continue
	})
}

// Conflicts asks for the frontends that service ports do without, of a namespace if it is not empty.
func (c *Client) Conflicts(ctx context.Context, namespace string) (out []Conflict, err error) {
	return out, pages(ctx, c, "/v1/conflicts", url.Values{"namespace": {namespace}}, func(page *Conflicts) string {
		out = append(out, page.Conflicts...)
		return page.Continue
	})
}

// Refused asks for the service ports that the kernel refuses, of a namespace if it is not empty: at most 1,000.
func (c *Client) Refused(ctx context.Context, namespace string) (out []RefusedPort, err error) {
	return out, pages(ctx, c, "/v1/refused", url.Values{"namespace": {namespace}}, func(page *RefusedPorts) string {
		out = page.Refused
		return ""
	})
}

// Transactions asks for what was done to the tables after the one of a number; 0: for all that is remembered.
func (c *Client) Transactions(ctx context.Context, after uint64) (out []Transaction, err error) {
	return out, pages(ctx, c, "/v1/transactions", url.Values{"continue": {strconv.FormatUint(after, 10)}}, func(page *Transactions) string {
		out = append(out, page.Transactions...)
		return page.Continue
	})
}

// pages asks for one page after the other; add says with what to continue.
func pages[P any](ctx context.Context, c *Client, path string, query url.Values, add func(*P) string) error {
	query.Set("limit", strconv.Itoa(mostListed))
	for {
		var page P
		if err := c.get(ctx, path, query, &page); err != nil {
			return err
		}
		next := add(&page)
		if next == "" {
			return nil
		}
		query.Set("continue", next)
	}
}

// Explain asks for an explanation of a target, to some clients or to each kind.
func (c *Client) Explain(ctx context.Context, target string, from []string) (*explain.Explanation, error) {
	e := &explain.Explanation{}
	return e, c.get(ctx, "/v1/explain", url.Values{"target": {target}, "from": from}, e)
}

// Transport returns what asks at a socket, for URLs like http://nftproxy/v1/version. Each request has a connection of its own. It
// asks nobody but root and this user.
func Transport(path string) http.RoundTripper {
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		unix, ok := conn.(*net.UnixConn)
		if !ok {
			_ = conn.Close()
			return nil, errors.New("this is no socket")
		}
		if err := trusted(unix); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}}
}

// get asks for a path.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	u := url.URL{Scheme: "http", Host: "nftproxy", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: Transport(c.path)}).Do(request)
	if err != nil {
		return fmt.Errorf("ask the nftproxy at %s: %w", c.path, err)
	}
	defer answer.Body.Close()
	decoder := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode != http.StatusOK {
		var why Fault
		if err := decoder.Decode(&why); err != nil || why.Error == "" {
			why.Error = answer.Status
		}
		return &Refused{answer.StatusCode, why.Error}
	}
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("read the answer of the nftproxy at %s: %w", c.path, err)
	}
	return nil
}
