// SPDX-License-Identifier: Apache-2.0

package source

import (
	"io"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// What an API server's answer may take at most, in bytes. 100,000 Services of 10 endpoints each have EndpointSlices of some 400 MB
// in JSON, which is the larger of the two encodings; etcd takes no object above 1.5 MB unless told to.
const (
	maxList  = 512 << 20
	maxEvent = 32 << 20
	maxError = 1 << 20 // an answer that is no 2xx
)

func errTooLarge(most int64) error {
	return badAnswer("read the API server's answer: it has more than %d MB: is this an API server? If it is, nftproxy needs more memory", most>>20)
}

// memoryParts is into how many parts a limit of the process's memory is divided of which an answer takes one at most: it is read into a
// buffer that grows, and decoded.
const memoryParts = 3

// affordable returns how many bytes an answer may have that may have so many.
func affordable(most int64) int64 { return min(most, debug.SetMemoryLimit(-1)/memoryParts) }

// longestRetryAfter is how long an API server may tell clients to stay away. What it says itself is one second.
const longestRetryAfter = 30 * time.Second

// Bound returns a transport that ends answers of an API server that are larger than any can be. Libraries read an answer, and an
// event of a watch in JSON, into memory as long as more of it comes. They also do what a header Retry-After says, without a bound:
// it is brought into one.
func Bound(next http.RoundTripper) http.RoundTripper { return bound{next} }

type bound struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bound) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err != nil || response.Body == nil || response.StatusCode == http.StatusSwitchingProtocols {
		return response, err
	}
	boundRetryAfter(response.Header)
	watches := request.URL.Query().Get("watch")
	content, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	body := &boundBody{ReadCloser: response.Body, most: affordable(maxList)}
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		body.most = maxError
	case watches == "" || watches == "false" || watches == "0":
	case strings.HasSuffix(content, "json"):
		body.most, body.values = affordable(maxEvent), &jsonValues{}
	default:
		return response, nil // each event says its length, which the library limits
	}
	response.Body = body
	return response, nil
}

// boundRetryAfter lets nobody be told to come back at once, or in years.
func boundRetryAfter(h http.Header) {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	switch longest := int(longestRetryAfter / time.Second); {
	case err != nil || seconds <= 0:
		h.Del("Retry-After") // the caller's own backoff is better
	case seconds > longest:
		h.Set("Retry-After", strconv.Itoa(longest))
	}
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery, for what looks through transports.
func (b bound) WrappedRoundTripper() http.RoundTripper { return b.next }

// boundBody is a body that ends with an error when it is too large.
type boundBody struct {
	io.ReadCloser
	most   int64
	read   int64       // of the body; with values, of the value that has begun
	values *jsonValues // not nil: each value counts for itself
}

// Read implements io.Reader.
func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if b.values != nil {
		if since, ended := b.values.scan(p[:n]); ended {
			b.read = int64(since)
		}
	}
	if b.read > b.most {
		return n, errTooLarge(b.most)
	}
	return n, err
}

// jsonValues finds the ends of objects in a stream of them.
type jsonValues struct {
	depth            int
	inText, escaping bool
}

// scan says whether an object ended in a part of the stream, and how many bytes came after the last end.
func (j *jsonValues) scan(part []byte) (since int, ended bool) {
	for i, c := range part {
		switch {
		case j.escaping:
			j.escaping = false
		case j.inText:
			j.escaping, j.inText = c == '\\', c != '"'
		case c == '"':
			j.inText = true
		case c == '{' || c == '[':
			j.depth++
		case c == '}' || c == ']':
			if j.depth--; j.depth == 0 {
				since, ended = len(part)-i-1, true
			}
		}
	}
	return since, ended
}
