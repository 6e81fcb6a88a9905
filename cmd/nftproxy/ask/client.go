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
	"github.com/nftproxy/nftproxy/printable"
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

// Elsewhere says that who answers does not serve this network namespace, or has other tables.
type Elsewhere struct {
	Path string
	Version
}

// Error implements error.
func (e *Elsewhere) Error() string {
	return fmt.Sprintf("at %s answers the nftproxy of table %s in %s", printable.Line(e.Path), printable.Word(e.Table), printable.Word(e.Namespace))
}

// Dial returns a client for the nftproxy of this network namespace that writes the tables of a name. It fails if none answers at
// the socket that can be believed; with an *Elsewhere if another one does.
func Dial(ctx context.Context, path, table string) (*Client, error) {
	c := &Client{path}
	v, err := c.Version(ctx)
	if err != nil {
		return nil, err
	}
	if v.Table != table || v.Namespace != networkNamespace() {
		return nil, &Elsewhere{path, v}
	}
	return c, nil
}

// Version asks who answers.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	err = c.get(ctx, "/v1/version", nil, &v)
	return v, err
}

// Service asks for one Service.
func (c *Client) Service(ctx context.Context, namespace, name string) (s Service, err error) {
	err = c.get(ctx, "/v1/services/"+url.PathEscape(namespace)+"/"+url.PathEscape(name), nil, &s)
	return s, err
}

// Node asks for what is known of the node.
func (c *Client) Node(ctx context.Context) (n Node, err error) {
	err = c.get(ctx, "/v1/node", nil, &n)
	return n, err
}

// Choice chooses Services. Its zero value chooses all.
type Choice struct {
	// Namespace is theirs.
	Namespace string
	// Name is that of one of the namespace.
	Name string
	// Selector chooses by their labels, as kubectl's does.
	Selector string
}

func (c Choice) query() url.Values {
	return url.Values{"namespace": {c.Namespace}, "name": {c.Name}, "selector": {c.Selector}}
}

// Services asks for all Services that are chosen; the name does not count.
func (c *Client) Services(ctx context.Context, of Choice) (out []Service, err error) {
	err = pages(ctx, c, "/v1/services", of.query(), func(page *Services) string {
		out = append(out, page.Services...)
		return page.Continue
	})
	return out, err
}

// Endpoints asks for the endpoints of Services.
func (c *Client) Endpoints(ctx context.Context, of Choice) (out []Endpoint, err error) {
	err = pages(ctx, c, "/v1/endpoints", of.query(), func(page *Endpoints) string {
		out = append(out, page.Endpoints...)
		return page.Continue
	})
	return out, err
}

// Conflicts asks for the frontends that service ports do without; the name does not count.
func (c *Client) Conflicts(ctx context.Context, of Choice) (out []Conflict, err error) {
	err = pages(ctx, c, "/v1/conflicts", of.query(), func(page *Conflicts) string {
		out = append(out, page.Conflicts...)
		return page.Continue
	})
	return out, err
}

// Refused asks for the service ports that the kernel refuses, at most 1,000; the name does not count.
func (c *Client) Refused(ctx context.Context, of Choice) (out []RefusedPort, err error) {
	err = pages(ctx, c, "/v1/refused", of.query(), func(page *RefusedPorts) string {
		out = page.Refused
		return ""
	})
	return out, err
}

// Transactions asks for what was done to the tables after the one of a number; 0: for all that is remembered.
func (c *Client) Transactions(ctx context.Context, after uint64) (out []Transaction, err error) {
	err = pages(ctx, c, "/v1/transactions", url.Values{"continue": {strconv.FormatUint(after, 10)}}, func(page *Transactions) string {
		out = append(out, page.Transactions...)
		return page.Continue
	})
	return out, err
}

// Diff asks how the kernel differs from what it should hold: for 1,000 differences at most.
func (c *Client) Diff(ctx context.Context) (d Diff, err error) {
	err = c.get(ctx, "/v1/diff", url.Values{"limit": {strconv.Itoa(mostListed)}}, &d)
	return d, err
}

// Connections asks for the open connections to Services.
func (c *Client) Connections(ctx context.Context, of Choice) (out []Connection, err error) {
	err = pages(ctx, c, "/v1/connections", of.query(), func(page *Connections) string {
		out = append(out, page.Connections...)
		return page.Continue
	})
	return out, err
}

// Affinity asks for the clients that session affinity remembers: for 1,000 at most.
func (c *Client) Affinity(ctx context.Context, of Choice) (out Affinity, err error) {
	query := of.query()
	query.Set("limit", strconv.Itoa(mostListed))
	err = c.get(ctx, "/v1/affinity", query, &out)
	return out, err
}

// Counts asks how many new connections came to the service ports of a namespace, or of all.
func (c *Client) Counts(ctx context.Context, namespace string) (out Counts, err error) {
	err = c.get(ctx, "/v1/counts", url.Values{"namespace": {namespace}}, &out)
	return out, err
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
	c := &Client{path}
	return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Connect(ctx) }}
}

// Connect returns a connection that speaks HTTP with the nftproxy at the socket. It is with nobody but root and this user.
func (c *Client) Connect(ctx context.Context) (*net.UnixConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
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
	return unix, nil
}

// Transport returns what asks at the socket, as the function of this name.
func (c *Client) Transport() http.RoundTripper { return Transport(c.path) }

// request makes a request.
func request(ctx context.Context, path string, query url.Values) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "nftproxy", Path: path, RawQuery: query.Encode()}
	return http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
}

// get asks for a path.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	question, err := request(ctx, path, query)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: Transport(c.path)}).Do(question)
	if err != nil {
		return fmt.Errorf("ask the nftproxy at %s: %w", c.path, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return refusedBy(answer)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the nftproxy at %s: %w", c.path, err)
	}
	return nil
}

// refusedBy reads why there is no answer.
func refusedBy(answer *http.Response) *Refused {
	var why Fault
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&why); err != nil || why.Error == "" {
		why.Error = answer.Status
	}
	return &Refused{answer.StatusCode, why.Error}
}
