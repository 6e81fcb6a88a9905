// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
)

// Bounds of those who watch.
const (
	// mostWatches is how many there are at once.
	mostWatches = 8
	// eventPace is the shortest time from one event to the next; what happens meanwhile is one event.
	eventPace = 250 * time.Millisecond
	// eventPatience is how long an event may take to be sent: who reads more slowly is left.
	eventPatience = 10 * time.Second
	// eventQuiet is after how long without an event a line says that nothing has happened.
	eventQuiet = 15 * time.Second
	// eventRecords and eventNames are how many transactions and Services an event names.
	eventRecords, eventNames = 50, 200
)

// Change is the data of an event of /v1/watch: what was done since the event before.
type Change struct {
	// Last is the number of the newest transaction.
	Last uint64 `json:"last"`
	// Transactions are the newest, the oldest of them first, and Missed is how many there were before them.
	Transactions []Transaction `json:"transactions"`
	Missed       uint64        `json:"missed,omitempty"`
	// Services were written: NAMESPACE/NAME. All says that any may have changed, since there were too many.
	Services []string `json:"services"`
	All      bool     `json:"all,omitempty"`
}

func changeOf(n *proxier.News) Change {
	out := Change{Last: n.Last, Transactions: []Transaction{}, Missed: n.Missed, Services: []string{}, All: n.All}
	for i := range n.Records {
		out.Transactions = append(out.Transactions, transactionOf(&n.Records[i]))
	}
	for _, s := range n.Services {
		out.Services = append(out.Services, printable.Word(s.String()))
	}
	return out
}

// watches answers /v1/watch.
type watches struct {
	feed proxier.Feed
	// start tells one nftproxy's numbers from those of the one before it.
	start string
	turns chan struct{}
}

func newWatches(d *Daemon) *watches {
	return &watches{proxier.NewFeed(d.Proxier), strconv.FormatInt(time.Now().UnixNano(), 36), make(chan struct{}, mostWatches)}
}

// ServeHTTP implements http.Handler. It sends an event at once, which says where the transactions are, and another whenever there
// are new ones. It holds nothing for who reads slowly: an event is made when it can be sent.
func (s *watches) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, known, err := s.position(r)
	if err != nil {
		code, body := text(nil, err)
		write(w, code, body)
		return
	}
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	default:
		w.Header().Set("Retry-After", "5")
		code, body := text(nil, refuse(http.StatusServiceUnavailable, "%d watch already: try again later", mostWatches))
		write(w, code, body)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	quiet := time.NewTimer(eventQuiet)
	defer quiet.Stop()
	for send := true; ; {
		text := ": nothing new\n\n"
		if send {
			news := s.feed.News(after, eventRecords, eventNames)
			if !known {
				news = proxier.News{Last: news.Last, All: true}
			}
			after, known = news.Last, true
			text = s.event(&news)
		}
		if !sent(w, text) {
			return
		}
		quiet.Reset(eventQuiet)
		pace := time.After(eventPace)
		select {
		case <-r.Context().Done():
			return
		case <-quiet.C:
			send = false
			continue
		case <-s.feed.Younger(after):
			send = true
		}
		select {
		case <-r.Context().Done():
			return
		case <-pace:
		}
	}
}

// position returns after which transaction a request wants to be told; not known: it has to begin anew.
func (s *watches) position(r *http.Request) (after uint64, known bool, err error) {
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = r.URL.Query().Get("after")
	}
	if id == "" {
		return 0, false, nil
	}
	start, number, ok := strings.Cut(id, "-")
	if after, err = strconv.ParseUint(number, 10, 64); err != nil || !ok {
		return 0, false, refuse(http.StatusBadRequest, "after: %q is no event's id", id)
	}
	return after, start == s.start, nil
}

func (s *watches) event(n *proxier.News) string {
	data, err := json.Marshal(changeOf(n))
	if err != nil { // there is nothing in it that cannot be written
		return ""
	}
	return fmt.Sprintf("id: %s-%d\nevent: change\ndata: %s\n\n", s.start, n.Last, data)
}

// sent says whether a text could be sent in time.
func sent(w http.ResponseWriter, text string) bool {
	c := http.NewResponseController(w)
	if c.SetWriteDeadline(time.Now().Add(eventPatience)) != nil {
		return false
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return false
	}
	return c.Flush() == nil
}
