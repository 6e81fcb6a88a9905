// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
)

// TestMain fails if client-go logged anything during the tests: what there is to say goes to warn.
func TestMain(m *testing.M) {
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(&log)
	code := m.Run()
	klog.Flush()
	klog.SetOutput(os.Stderr)
	if log.Len() > 0 {
		fmt.Printf("client-go logged:\n%s", log.String())
		code = 1
	}
	os.Exit(code)
}

var web = corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "web", UID: "u1"}

// warnings is a warn that writes down what it is told.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) warn(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, err.Error())
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.list
	w.list = nil
	return list
}

func listEvents(t *testing.T, api *fake.Clientset) []eventsv1.Event {
	t.Helper()
	list, err := api.EventsV1().Events("").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func eventsOf(api *fake.Clientset) func(string) API {
	return func(namespace string) API { return api.EventsV1().Events(namespace) }
}

// Goroutines that outlive Close fail each of these tests: the bubble would never end.

func TestWarningArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, w := fake.NewClientset(), &warnings{}
		r := New(eventsOf(api), "n1", w.warn)
		r.Warning(web, "FrontendConflict", "100% of 10.0.0.1:80/tcp is another's")
		synctest.Wait()
		list := listEvents(t, api)
		r.Close()
		if len(list) != 1 {
			t.Fatalf("got %d events, want 1", len(list))
		}
		e := list[0]
		e.Name, e.TypeMeta, e.ManagedFields = "", metav1.TypeMeta{}, nil
		want := eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, EventTime: metav1.MicroTime{Time: time.Now()},
			ReportingController: "nftproxy", ReportingInstance: "n1", Action: action, Regarding: web,
			Type: "Warning", Reason: "FrontendConflict", Note: "100% of 10.0.0.1:80/tcp is another's",
		}
		if got, want := fmt.Sprintf("%+v", e), fmt.Sprintf("%+v", want); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := w.take(); len(got) > 0 {
			t.Errorf("warned of %q", got)
		}
	})
}

// The API's validation: a Node's events are in the namespace default, and texts have limits.
func TestWarningFitsTheAPI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		r := New(eventsOf(api), strings.Repeat("n", 253), nil)
		r.Warning(corev1.ObjectReference{Kind: "Node", Name: "n1"}, "PortInUse", strings.Repeat("é", 600)+"x")
		r.Warning(corev1.ObjectReference{Kind: "Service", Namespace: "default", Name: strings.Repeat("s", 253)}, "InvalidService", "x")
		r.Close()
		list := listEvents(t, api)
		if len(list) != 2 {
			t.Fatalf("got %d events, want 2", len(list))
		}
		for _, e := range list {
			if (e.Action == "StartKubeProxy") != (e.Regarding.Kind == "Node") {
				t.Errorf("an event of a %s has the action %q", e.Regarding.Kind, e.Action)
			}
			if e.Namespace != "default" || len(e.Name) > 253 || len(e.ReportingInstance) != maxInstance ||
				e.Note != "x" && e.Note != strings.Repeat("é", 510)+"…" {
				t.Errorf("got namespace %q, a name of %d bytes, an instance of %d, note %q",
					e.Namespace, len(e.Name), len(e.ReportingInstance), e.Note)
			}
		}
	})
}

func TestWarningsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		r := New(eventsOf(api), "n1", nil)
		for range 5 {
			r.Warning(web, "FrontendConflict", "again")
			synctest.Wait()
		}
		other := web
		other.Name = "other"
		r.Warning(other, "FrontendConflict", "again")
		r.Close()
		list := listEvents(t, api)
		if len(list) != 2 {
			t.Fatalf("got %d events, want one for each Service", len(list))
		}
		for _, e := range list {
			if repeated := e.Regarding.Name == "web"; repeated != (e.Series != nil) {
				t.Errorf("event about %s has series %v", e.Regarding.Name, e.Series)
			}
		}
	})
}

// TestSeries: the second event of a series is written at once, how many there were when it ends or every half hour, and what comes after
// the end is another event. Where the API server has forgotten the event it gets it again.
func TestSeries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		r := New(eventsOf(api), "n1", nil)
		defer r.Close()
		warn := func(times int) {
			for range times {
				r.Warning(web, "FrontendConflict", "again")
			}
			synctest.Wait()
		}
		expect := func(when, want string) {
			t.Helper()
			var got []string
			for _, e := range listEvents(t, api) {
				got = append(got, fmt.Sprint(count(&e)))
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%s: the events were seen %v times, want %s", when, got, want)
			}
		}
		warn(1)
		expect("one", "[1]")
		time.Sleep(time.Second)
		warn(1)
		expect("two", "[2]")
		warn(3)
		expect("more", "[2]")
		for range 10 {
			time.Sleep(4 * time.Minute)
			warn(1)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if list := listEvents(t, api); len(list) != 1 || count(&list[0]) < 10 {
			t.Errorf("after 40 minutes of a series there is %v, want one that was seen 10 times or more", list)
		}
		time.Sleep(3 * finishTime)
		expect("at the end", "[15]")
		for _, e := range listEvents(t, api) {
			must(t, api.EventsV1().Events(e.Namespace).Delete(t.Context(), e.Name, metav1.DeleteOptions{}))
		}
		warn(1)
		expect("after the end", "[1]")
		for _, e := range listEvents(t, api) {
			must(t, api.EventsV1().Events(e.Namespace).Delete(t.Context(), e.Name, metav1.DeleteOptions{}))
		}
		warn(1)
		expect("forgotten by the API server", "[2]")
	})
}

// TestRepeatedMeanwhile: what comes while the first is on its way is counted, too.
func TestRepeatedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		var failed atomic.Bool
		api.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			return !failed.Swap(true), nil, apierrors.NewServiceUnavailable("not yet")
		})
		r := New(eventsOf(api), "n1", nil)
		for range 3 {
			r.Warning(web, "FrontendConflict", "again")
		}
		time.Sleep(time.Minute)
		r.Close()
		if list := listEvents(t, api); len(list) != 1 || count(&list[0]) != 3 {
			t.Errorf("there is %v, want one event that was seen three times", list)
		}
	})
}

// TestServerGone: what the API server does not take for long is dropped, and what comes then is sent.
func TestServerGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		var gone atomic.Bool
		gone.Store(true)
		api.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			return gone.Load(), nil, errors.New("no route to host")
		})
		r := New(eventsOf(api), "n1", nil)
		defer r.Close()
		for i := range 3 * maxQueued {
			about := web
			about.Name = fmt.Sprintf("web-%d", i)
			r.Warning(about, "FrontendConflict", "x")
			time.Sleep(time.Second)
		}
		r.book.mu.Lock()
		if n, m := len(r.book.queue), len(r.book.series); n > maxQueued || m > maxQueued+1 {
			t.Errorf("%d events wait, %d are known", n, m)
		}
		r.book.mu.Unlock()
		gone.Store(false)
		r.Warning(web, "FrontendConflict", "x")
		time.Sleep(time.Minute)
		synctest.Wait()
		if list := listEvents(t, api); len(list) < maxQueued-10 || len(list) > maxQueued+1 {
			t.Errorf("%d events came, want those that waited", len(list))
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWarningsLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		r := New(eventsOf(api), "n1", nil)
		defer r.Close()
		n := 0
		warn := func(count int) int {
			for range count {
				n++
				about := web
				about.Name = fmt.Sprintf("web-%d", n)
				r.Warning(about, "FrontendConflict", "x")
			}
			synctest.Wait()
			return len(listEvents(t, api))
		}
		if got := warn(10_000); got != burst {
			t.Errorf("%d events were sent at once, want %d", got, burst)
		}
		time.Sleep(10 * time.Second)
		if got := warn(100) - burst; got != 10*perSecond {
			t.Errorf("%d events were sent after 10 s, want %d", got, 10*perSecond)
		}
	})
}

func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		api.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			time.Sleep(time.Second) // a slow server
			return false, nil, nil
		})
		r := New(eventsOf(api), "n1", nil)
		r.Warning(web, "FrontendConflict", "last words")
		r.Close()
		if got := listEvents(t, api); len(got) != 1 {
			t.Errorf("got %d events after Close, want 1", len(got))
		}
		r.Warning(web, "PortInUse", "too late")
		synctest.Wait()
		if got := listEvents(t, api); len(got) != 1 {
			t.Errorf("got %d events after a warning after Close, want 1", len(got))
		}
	})
}

// A server that does not answer holds up neither a warning nor Close for long.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientset()
		release := make(chan struct{})
		api.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			<-release
			return true, nil, context.Canceled
		})
		start := time.Now()
		r := New(eventsOf(api), "n1", nil)
		// Only one: the fake client works on one request at a time, and its lock stops the bubble's time.
		r.Warning(web, "FrontendConflict", "x")
		if took := time.Since(start); took > 0 {
			t.Errorf("the warning took %v", took)
		}
		r.Close()
		if took := time.Since(start); took != flushTime {
			t.Errorf("Close took %v, want %v", took, flushTime)
		}
		close(release) // the fake client does not look at contexts
	})
}

func TestFailuresAreToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, w := fake.NewClientset(), &warnings{}
		var mu sync.Mutex
		var err error
		fail := func(e error) {
			mu.Lock()
			defer mu.Unlock()
			err = e
		}
		api.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			return err != nil, nil, err
		})
		r := New(eventsOf(api), "n1", w.warn)
		defer r.Close()
		step := func(name string, e error, want ...string) {
			t.Helper()
			fail(e)
			time.Sleep(time.Nanosecond) // it is in events' names
			r.Warning(web, name, "x")
			synctest.Wait()
			got := w.take()
			if len(got) != len(want) || len(want) > 0 && !strings.Contains(got[0], want[0]) {
				t.Errorf("%s: warned of %q, want %q", name, got, want)
			}
		}
		forbidden := apierrors.NewForbidden(eventsv1.Resource("events"), "", errors.New("not you"))
		step("First", forbidden, `send event First about Service shop/web: events.events.k8s.io is forbidden: not you; `+
			`allow it with a ClusterRole (apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"])`)
		step("Second", forbidden)
		step("Third", nil)
		gone := errors.New("no route to host")
		step("Fourth", gone, "send event Fourth about Service shop/web: no route to host; check the health")
		// What could not be sent is sent when the server is back.
		fail(nil)
		time.Sleep(time.Minute)
		var reasons []string
		for _, e := range listEvents(t, api) {
			reasons = append(reasons, e.Reason)
		}
		if got := fmt.Sprint(reasons); got != "[Third Fourth]" && got != "[Fourth Third]" {
			t.Errorf("events %s have arrived, want Third and Fourth", got)
		}
	})
}

func TestFunc(t *testing.T) {
	t.Parallel()
	Func(nil).Warning(web, "Reason", "dropped")
	var got string
	Func(func(about corev1.ObjectReference, reason, message string) {
		got = about.Name + " " + reason + " " + message
	}).
		Warning(web, "Reason", "message")
	if got != "web Reason message" {
		t.Errorf("got %q", got)
	}
}
