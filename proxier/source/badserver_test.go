// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/nftproxy/nftproxy/proxier/apiclient"
	"github.com/nftproxy/nftproxy/proxier/source/sourcetest"
)

// scripted is a transport that answers without a network, so that it can be used in fake time.
type scripted struct {
	mu       sync.Mutex
	requests map[string]int // by path
	// answer answers a request; it is called with mu held.
	answer func(r *http.Request) (*http.Response, error)
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[r.URL.Path]++
	return s.answer(r)
}

func (s *scripted) set(answer func(r *http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// take returns how many requests came since the last time to the path with the most.
func (s *scripted) take() (most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.requests {
		most = max(most, n)
	}
	clear(s.requests)
	return most
}

// scriptedCluster returns a Cluster whose API server answers by a script.
func scriptedCluster(t *testing.T, r *sourcetest.Recorder, answer func(r *http.Request) (*http.Response, error)) (*scripted, Cluster) {
	t.Helper()
	s := &scripted{requests: map[string]int{}, answer: answer}
	api, err := apiclient.New(&rest.Config{Host: "http://api", Transport: Bound(s), QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	must(t, err)
	return s, Cluster{Client: api, NodeName: "n1", Warn: r.Warn}
}

func answerOf(code int, contentType string, body io.Reader) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(body)}
}

func jsonAnswer(body string) *http.Response {
	return answerOf(http.StatusOK, "application/json", strings.NewReader(body))
}

func statusAnswer(code int, reason metav1.StatusReason) *http.Response {
	return answerOf(code, "application/json", strings.NewReader(statusText(code, reason)))
}

func statusText(code int, reason metav1.StatusReason) string {
	out, _ := json.Marshal(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "no"})
	return string(out)
}

// silent is a watch that sends some events and then stays open.
func silent(r *http.Request, events ...string) *http.Response {
	reader, writer := io.Pipe()
	context.AfterFunc(r.Context(), func() { _ = writer.CloseWithError(r.Context().Err()) })
	go func() {
		for _, e := range events {
			_, _ = io.WriteString(writer, e+"\n")
		}
	}()
	return answerOf(http.StatusOK, "application/json", reader)
}

func isWatch(r *http.Request) bool   { return r.URL.Query().Get("watch") != "" }
func isInitial(r *http.Request) bool { return r.URL.Query().Get("sendInitialEvents") != "" }

func listText(version string, objects ...any) string {
	out, _ := json.Marshal(map[string]any{"metadata": metav1.ListMeta{ResourceVersion: version}, "items": objects})
	return string(out)
}

// well answers as an API server does that has one Service and cannot send the first list through a watch.
func well(r *http.Request) (*http.Response, error) {
	switch {
	case isInitial(r):
		return statusAnswer(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid), nil
	case isWatch(r):
		return silent(r), nil
	case r.URL.Path == pathServices:
		return jsonAnswer(listText("5", apiService("web", "10.0.0.1"))), nil
	}
	return jsonAnswer(listText("5")), nil
}

// endless is an API server that begins something and never comes to its end.
type endless struct{ begin, more string }

func (e *endless) Read(p []byte) (int, error) {
	text := e.begin + strings.Repeat(e.more, 1+len(p)/len(e.more))
	e.begin = ""
	return copy(p, text), nil
}

// Whatever an API server answers, it is asked with backoff, and asked again.
func TestClusterBacksOff(t *testing.T) {
	t.Parallel()
	expired := statusText(http.StatusGone, metav1.StatusReasonExpired)
	retryAfter := func(code int, after string) *http.Response {
		a := statusAnswer(code, metav1.StatusReasonTooManyRequests)
		a.Header.Set("Retry-After", after)
		return a
	}
	one := event("MODIFIED", apiService("web", "10.0.0.1"))
	watches := map[string]func(r *http.Request) (*http.Response, error){
		"watch 410": func(*http.Request) (*http.Response, error) {
			return statusAnswer(http.StatusGone, metav1.StatusReasonExpired), nil
		},
		"watch event 410": func(r *http.Request) (*http.Response, error) {
			return silent(r, event("ERROR", json.RawMessage(expired))), nil
		},
		"watch 500": func(*http.Request) (*http.Response, error) {
			return statusAnswer(http.StatusInternalServerError, metav1.StatusReasonInternalError), nil
		},
		"watch 429":         func(*http.Request) (*http.Response, error) { return retryAfter(http.StatusTooManyRequests, "1"), nil },
		"watch 429 at once": func(*http.Request) (*http.Response, error) { return retryAfter(http.StatusTooManyRequests, "0"), nil },
		"watch 429 never": func(*http.Request) (*http.Response, error) {
			return retryAfter(http.StatusTooManyRequests, "1000000000"), nil
		},
		"watch 404": func(*http.Request) (*http.Response, error) {
			return statusAnswer(http.StatusNotFound, metav1.StatusReasonNotFound), nil
		},
		"watch ends":      func(*http.Request) (*http.Response, error) { return jsonAnswer(""), nil },
		"watch one event": func(*http.Request) (*http.Response, error) { return jsonAnswer(one + "\n"), nil },
		"watch html": func(*http.Request) (*http.Response, error) {
			return answerOf(http.StatusOK, "text/html", strings.NewReader("<html>")), nil
		},
		"watch cut":      func(*http.Request) (*http.Response, error) { return jsonAnswer(one[:20]), nil },
		"watch refused":  func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED },
		"watch no route": func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") },
	}
	answers := map[string]func(r *http.Request) (*http.Response, error){}
	for name, watch := range watches {
		answers[name] = func(r *http.Request) (*http.Response, error) {
			if isWatch(r) {
				return watch(r)
			}
			return well(r)
		}
		answers["all "+name] = watch
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := sourcetest.New(t)
				s, c := scriptedCluster(t, r, answer)
				sourcetest.Run(r, c.Run)
				time.Sleep(10 * time.Minute)
				if n := s.take(); n < 2 || n > 400 {
					t.Errorf("%d requests for one resource in 10 minutes, want 2 to 400", n)
				}
				s.set(well)
				time.Sleep(40 * time.Second) // a request may be told to wait for 30
				r.Take()
				s.set(func(r *http.Request) (*http.Response, error) {
					if isWatch(r) {
						return silent(r, event("MODIFIED", apiService("web", "10.0.0.9"))), nil
					}
					return well(r)
				})
				time.Sleep(time.Minute)
				if n := s.take(); n > 30 {
					t.Errorf("%d requests in 100 seconds when all is well", n)
				}
			})
		})
	}
}

// The delay grows to its bound, differs from node to node, and begins anew after a while.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, other := pace{}, pace{}
		run := func(p *pace, n int) time.Duration {
			start := time.Now()
			for range n {
				must(t, p.wait(t.Context()))
			}
			return time.Since(start)
		}
		if d := run(&p, freeRequests); d != 0 {
			t.Errorf("the first requests take %v", d)
		}
		if d := run(&p, 1); d < firstDelay || d > firstDelay*3/2 {
			t.Errorf("the next one takes %v", d)
		}
		run(&p, 20)
		if d := run(&p, 1); d < longestDelay || d > 30*time.Second {
			t.Errorf("in the end one takes %v", d)
		}
		if a, b := run(&other, 20), run(&pace{}, 20); a == b {
			t.Error("two nodes wait equally long")
		}
		time.Sleep(quiet + time.Second)
		if d := run(&p, freeRequests); d != 0 {
			t.Errorf("after a rest the first requests take %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
	})
}

// A list that cannot be one is told of, and changes nothing.
func TestClusterBadLists(t *testing.T) {
	t.Parallel()
	item := `{"metadata":{"name":"web","namespace":"ns"}}`
	for name, body := range map[string]string{
		"empty object":          `{}`,
		"no resource version":   `{"kind":"ServiceList","apiVersion":"v1","metadata":{},"items":[` + item + `]}`,
		"no metadata":           `{"kind":"ServiceList","apiVersion":"v1","items":[]}`,
		"another kind":          `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[` + item + `]}`,
		"another group":         `{"kind":"ServiceList","apiVersion":"example.com/v1","metadata":{"resourceVersion":"7"},"items":[]}`,
		"another version":       `{"kind":"ServiceList","apiVersion":"v2","metadata":{"resourceVersion":"7"},"items":[]}`,
		"one object":            `{"kind":"Service","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"web","namespace":"ns"}}`,
		"a success":             `{"kind":"Status","apiVersion":"v1","metadata":{"resourceVersion":"7"},"status":"Success"}`,
		"item without name":     `{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"namespace":"ns"}}]}`,
		"item without ns":       `{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"web"}}]}`,
		"empty item":            `{"metadata":{"resourceVersion":"7"},"items":[{}]}`,
		"null item":             `{"metadata":{"resourceVersion":"7"},"items":[null]}`,
		"no JSON":               `<html>log in</html>`,
		"nothing":               ``,
		"null":                  `null`,
		"a list of JSON":        `[]`,
		"cut":                   listText("7", apiService("web", "10.0.0.1"))[:60],
		"another type of items": `{"metadata":{"resourceVersion":"7"},"items":{"a":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := sourcetest.New(t)
				bad := false
				s, c := scriptedCluster(t, r, nil)
				s.set(func(r *http.Request) (*http.Response, error) {
					switch {
					case r.URL.Path == pathServices && isWatch(r) && !isInitial(r):
						bad = true
						return statusAnswer(http.StatusGone, metav1.StatusReasonExpired), nil
					case r.URL.Path == pathServices && !isWatch(r) && bad:
						return jsonAnswer(body), nil
					}
					return well(r)
				})
				sourcetest.Run(r, c.Run)
				time.Sleep(5 * time.Minute)
				lines, warnings := r.Take()
				services := 0
				for _, l := range lines {
					if strings.HasPrefix(l, "services") {
						services++
					}
				}
				if services != 1 {
					t.Errorf("the sink was told %q, want one list of Services", lines)
				}
				if !strings.Contains(strings.Join(warnings, "\n"), "list Services at the API server, trying again") {
					t.Errorf("warnings %q do not tell of the list", warnings)
				}
				s.set(well)
				time.Sleep(time.Minute)
				if lines, _ := r.Take(); fmt.Sprint(lines) != "[services [ns/web]]" {
					t.Errorf("once the API server is well the sink is told %q", lines)
				}
			})
		})
	}
}

// A list of nothing is a list.
func TestClusterNullItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := sourcetest.New(t)
		_, c := scriptedCluster(t, r, func(r *http.Request) (*http.Response, error) {
			if isWatch(r) {
				return well(r)
			}
			return jsonAnswer(`{"metadata":{"resourceVersion":"7"},"items":null}`), nil
		})
		sourcetest.Run(r, c.Run)
		r.ExpectSorted("services []", "slices []", "nodes []", "cidrs []")
		r.ExpectWarnings()
	})
}

// An event that cannot be one is told of, changes nothing, and all is listed again.
func TestClusterBadEvents(t *testing.T) {
	t.Parallel()
	noName, noVersion, noNamespace := apiService("", "10.0.0.2"), apiService("web", "10.0.0.2"), apiService("web", "10.0.0.2")
	noVersion.ResourceVersion, noNamespace.Namespace = "", ""
	for name, bad := range map[string]string{
		"empty object":      event("ADDED", json.RawMessage(`{}`)),
		"deleted nothing":   event("DELETED", json.RawMessage(`{}`)),
		"null":              event("MODIFIED", nil),
		"another kind":      event("ADDED", apiNode("n1")),
		"no name":           event("ADDED", noName),
		"no version":        event("MODIFIED", noVersion),
		"no namespace":      event("DELETED", noNamespace),
		"bookmark of none":  event("BOOKMARK", noVersion),
		"bookmark of other": event("BOOKMARK", apiNode("")),
		"unknown type":      event("MOVED", apiService("web", "10.0.0.2")),
		"error of nothing":  event("ERROR", json.RawMessage(`{}`)),
		"lower version":     event("MODIFIED", atVersion(apiService("web", "10.0.0.2"), "4")),
		"lower bookmark":    event("BOOKMARK", atVersion(apiService("", ""), "4")),
		"no JSON":           "<html>\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := sourcetest.New(t)
				sent := false
				_, c := scriptedCluster(t, r, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == pathServices && isWatch(r) && !isInitial(r) && !sent {
						sent = true
						return silent(r, bad), nil
					}
					return well(r)
				})
				sourcetest.Run(r, c.Run)
				time.Sleep(time.Minute)
				lines, warnings := r.Take()
				services := 0
				for _, l := range lines {
					switch {
					case l == "services [ns/web]":
						services++
					case strings.HasPrefix(l, "service"), strings.HasPrefix(l, "delete"), strings.HasPrefix(l, "node "):
						t.Errorf("the sink was told %q", l)
					}
				}
				if services != 2 {
					t.Errorf("the sink was told %q, want Services listed twice", lines)
				}
				if !strings.Contains(strings.Join(warnings, "\n"), "watch Services at the API server, trying again") {
					t.Errorf("warnings %q do not tell of the event", warnings)
				}
			})
		})
	}
}

func atVersion(s *corev1.Service, version string) *corev1.Service {
	s.ResourceVersion = version
	return s
}

// Events that come in another order than they happened would leave an older state: all is listed again. One that comes twice is
// no fault.
func TestClusterReorderedEvents(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		versions []string
		lists    int
	}{
		"in order":  {[]string{"6", "7", "9"}, 1},
		"twice":     {[]string{"6", "6", "7", "7"}, 1},
		"reordered": {[]string{"6", "8", "7"}, 2},
		"opaque":    {[]string{"6", "b", "a"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := sourcetest.New(t)
				sent := false
				_, c := scriptedCluster(t, r, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == pathServices && isWatch(r) && !isInitial(r) && !sent {
						sent = true
						var events []string
						for _, v := range tt.versions {
							events = append(events, event("MODIFIED", atVersion(apiService("web", "10.0.0.2"), v)))
						}
						return silent(r, events...), nil
					}
					return well(r)
				})
				sourcetest.Run(r, c.Run)
				time.Sleep(time.Minute)
				lines, _ := r.Take()
				lists := 0
				for _, l := range lines {
					if l == "services [ns/web]" {
						lists++
					}
				}
				if lists != tt.lists {
					t.Errorf("Services were listed %d times, want %d: %q", lists, tt.lists, lines)
				}
			})
		})
	}
}

// past is an API server whose etcd can be restored from a backup. A watch from the future is silent.
type past struct {
	watchList bool
	version   int
	service   string // the name of the only one
	ended     chan struct{}
}

func (p *past) answer(r *http.Request) (*http.Response, error) {
	objects := map[string]any{pathServices: apiService(p.service, "10.0.0.1"), pathSlices: apiSlice(p.service, "10.1.0.1"),
		pathNodes: apiNode("n1"), pathCIDRs: apiServiceCIDR(p.service)}
	version := strconv.Itoa(p.version)
	if p.version < 0 {
		version = fmt.Sprintf("opaque%d", -p.version)
	}
	o := objects[r.URL.Path]
	o.(metav1.Object).SetResourceVersion(version)
	asked, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	switch tooNew := asked > p.version && p.version > 0; {
	case tooNew && (isInitial(r) || !isWatch(r)):
		return answerOf(http.StatusGatewayTimeout, "application/json", strings.NewReader(`{"kind":"Status","apiVersion":"v1","status":"Failure",`+
			`"reason":"Timeout","code":504,"message":"Too large resource version","details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}}`)), nil
	case isInitial(r) && !p.watchList:
		return well(r)
	case isInitial(r):
		added := event("ADDED", o)
		end := strings.Replace(bookmark(r.URL.Path), `"resourceVersion":"5"`, `"resourceVersion":"`+version+`"`, 1)
		return p.open(r, added, end), nil
	case isWatch(r):
		return p.open(r), nil
	}
	return jsonAnswer(listText(version, o)), nil
}

func (p *past) open(r *http.Request, events ...string) *http.Response {
	a := silent(r, events...)
	ended, body := p.ended, a.Body
	reader, writer := io.Pipe()
	go func() { _, err := io.Copy(writer, body); _ = writer.CloseWithError(err) }()
	context.AfterFunc(r.Context(), func() { _ = writer.CloseWithError(r.Context().Err()) })
	go func() {
		select {
		case <-ended:
			_ = writer.Close()
		case <-r.Context().Done():
		}
	}()
	a.Body = reader
	return a
}

// restart ends all watches, and goes on with another state.
func (p *past) restart(s *scripted, version int, service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.version, p.service = version, service
	close(p.ended)
	p.ended = make(chan struct{})
}

// When an API server goes back in time, all is listed again, within 30 seconds.
func TestClusterBackInTime(t *testing.T) {
	t.Parallel()
	for _, watchList := range []bool{false, true} {
		t.Run(fmt.Sprintf("watchList=%v", watchList), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := sourcetest.New(t)
				p := &past{watchList: watchList, version: 1000, service: "new", ended: make(chan struct{})}
				s, c := scriptedCluster(t, r, p.answer)
				sourcetest.Run(r, c.Run)
				r.ExpectSorted("services [ns/new]", "slices [ns/new]", "nodes [n1]", "cidrs [new]")
				time.Sleep(10 * time.Minute)

				p.restart(s, 1001, "same") // nothing was restored: what changes comes through the watch
				time.Sleep(10 * time.Minute)
				if lines, warnings := r.Take(); len(lines)+len(warnings) > 0 {
					t.Errorf("after a restart the sink is told %q, warnings %q", lines, warnings)
				}

				s.set(func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED })
				p.restart(s, 99, "old")
				time.Sleep(10 * time.Minute) // to restore a backup takes a while, and all that time it is asked less often
				r.Take()
				s.set(p.answer)
				time.Sleep(30 * time.Second)
				warnings := fmt.Sprint(r.Warnings())
				for _, kind := range []string{"Services", "EndpointSlices", "Node n1", "ServiceCIDRs"} {
					want := kind + " at the API server, trying again: the API server has gone back in time, from resource version 1000 to 99 " +
						"(was etcd restored from a backup?): all is listed again"
					if strings.Count(warnings, want) != 1 {
						t.Errorf("warnings %s, want once %q", warnings, want)
					}
				}
				r.ExpectSorted("services [ns/old]", "slices [ns/old]", "nodes [n1]", "cidrs [old]")
				time.Sleep(time.Minute) // a watch that ends at once makes the reflector list again
				r.Take()
				p.restart(s, 100, "old")
				time.Sleep(10 * time.Minute)
				if lines, warnings := r.Take(); len(lines)+len(warnings) > 0 {
					t.Errorf("later the sink is told %q, warnings %q", lines, warnings)
				}
			})
		})
	}
}

// An API server that goes back in time after a list, while the watch waits for its turn, is noticed, too.
func TestClusterBackInTimeBeforeWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version, watches := "1000", 0
		q := &requests[*corev1.NodeList]{
			resource: resource{kind: "Node", plural: "nodes", is: of[*corev1.Node]},
			report:   func(context.Context, resource, string, error) {},
			restrict: func(*metav1.ListOptions) {},
			lister: func(context.Context, metav1.ListOptions) (*corev1.NodeList, error) {
				return &corev1.NodeList{ListMeta: metav1.ListMeta{ResourceVersion: version}}, nil
			},
			watcher: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
				watches++
				return watch.NewFake(), nil
			},
			history: history{renew: make(chan struct{}, 1)},
		}
		for _, tt := range []struct {
			soon  int // watches before, which make this one wait
			later string
			stale bool
		}{{0, "1000", false}, {10, "1000", false}, {10, "50", true}} {
			version, watches = "1000", 0
			if _, err := q.list(t.Context(), metav1.ListOptions{}); err != nil {
				t.Fatal(err)
			}
			version = tt.later
			q.watches = pace{soon: tt.soon, next: longestDelay, last: time.Now()}
			w, err := q.watch(t.Context(), metav1.ListOptions{ResourceVersion: "1000"})
			if apierrors.IsResourceExpired(err) != tt.stale || (watches == 0) != tt.stale {
				t.Errorf("%+v: %v, %d watches", tt, err, watches)
			}
			if err == nil {
				w.Stop()
			}
		}
	})
}

// Resource versions that are no numbers are not compared.
func TestClusterOpaqueVersions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := sourcetest.New(t)
		p := &past{version: -7, service: "web", ended: make(chan struct{})}
		s, c := scriptedCluster(t, r, p.answer)
		sourcetest.Run(r, c.Run)
		r.ExpectSorted("services [ns/web]", "slices [ns/web]", "nodes [n1]", "cidrs [web]")
		time.Sleep(time.Minute)
		s.take()
		p.restart(s, -3, "web")
		time.Sleep(time.Minute)
		if lines, warnings := r.Take(); len(lines)+len(warnings) > 0 || s.take() != 1 {
			t.Errorf("after a restart the sink is told %q, warnings %q; want one watch of each and nothing else", lines, warnings)
		}
	})
}

// Bodies without an end come to one.
func TestBound(t *testing.T) {
	t.Parallel()
	get := func(query string, code int, contentType string, body io.Reader) error {
		s := &scripted{requests: map[string]int{}, answer: func(*http.Request) (*http.Response, error) {
			return answerOf(code, contentType, body), nil
		}}
		request, err := http.NewRequest(http.MethodGet, "http://api/api/v1/services"+query, nil)
		must(t, err)
		response, err := Bound(s).RoundTrip(request)
		must(t, err)
		defer func() { _ = response.Body.Close() }()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	spaces := strings.Repeat(" ", 1<<16)
	for name, err := range map[string]error{
		"list":         get("", http.StatusOK, "application/json", &endless{"", spaces}),
		"list, proto":  get("?watch=0", http.StatusOK, "application/vnd.kubernetes.protobuf", &endless{"", spaces}),
		"error":        get("?watch=1", http.StatusInternalServerError, "application/json", &endless{"", spaces}),
		"event":        get("?watch=1", http.StatusOK, "application/json;stream=watch", &endless{`{"a":"}`, `\"}{[]` + spaces}),
		"many, nested": get("?watch=1", http.StatusOK, "application/json", &endless{`{"a":[`, `{"b":1},` + spaces}),
		"no object":    get("?watch=true", http.StatusOK, "application/json", &endless{"", spaces}),
	} {
		if err == nil || !strings.Contains(err.Error(), "it has more than") {
			t.Errorf("%s: error %v, want one about the size", name, err)
		}
	}
	// A watch may bring as much as it likes, event by event.
	large := `{"a":"\"}` + strings.Repeat("x", 20<<20) + `"}` + "\n"
	if err := get("?watch=1", http.StatusOK, "application/json", strings.NewReader(strings.Repeat(large, 4))); err != nil {
		t.Errorf("four large events: %v", err)
	}
}

// Where memory is limited, so are answers: a third of the limit at most.
func TestBoundOfMemory(t *testing.T) {
	was := debug.SetMemoryLimit(90 << 20)
	defer debug.SetMemoryLimit(was)
	if got := affordable(maxList); got != 30<<20 {
		t.Errorf("%d bytes of a list are taken", got)
	}
	if got := affordable(maxError); got != maxError {
		t.Errorf("%d bytes of an error are taken", got)
	}
}

// A list in parts that go on, or that comes through a watch and goes on, comes to an end, too.
func TestClusterEndlessParts(t *testing.T) {
	t.Parallel()
	q := &requests[*corev1.ServiceList]{}
	page := &corev1.ServiceList{Items: []corev1.Service{*apiService(strings.Repeat("x", 1<<20), "")}}
	var err error
	n := 0
	for ; err == nil && n < maxList; n++ {
		err = q.add(page)
	}
	if n < 100 || n > 1000 {
		t.Errorf("%d pages of 1 MB each were taken", n)
	}
	q.size, n, err = 0, 0, nil
	q.pages = 0
	for ; err == nil && n <= 2*maxPages; n++ {
		err = q.add(&corev1.ServiceList{})
	}
	if err == nil {
		t.Error("empty pages are taken without end")
	}
	c := &eventCheck{resource: resource{plural: "services", is: of[*corev1.Service], namespaced: true}, initial: true, report: func(error) {}}
	n, err = 0, nil
	for ; err == nil && n < maxList; n++ {
		err = c.check(watchAdded(&page.Items[0]))
	}
	if n < 100 || n > 1000 {
		t.Errorf("%d initial events of 1 MB each were taken", n)
	}
}

func watchAdded(s *corev1.Service) watch.Event { return watch.Event{Type: watch.Added, Object: s} }
