// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
)

// explained is what a node says of a Service, as JSON.
func explained(t *testing.T, node string, used []string, outcome explain.Outcome, holds bool) string {
	t.Helper()
	e := explain.Explanation{Target: "demo/web", Node: explain.NodeView{Name: node}, Kernel: explain.Kernel{Holds: &holds}}
	p := explain.Port{Identity: explain.Identity{Service: "demo/web", Number: 80, Protocol: "tcp", Family: "ip"},
		Policies: explain.Policies{InternalPolicy: "Cluster", Scheduler: "round-robin"}}
	var to []explain.To
	for _, a := range used {
		p.Endpoints = append(p.Endpoints, explain.Endpoint{Address: a, Node: node, Here: true, Cluster: true})
		to = append(to, explain.To{Address: a})
	}
	view := explain.ClientView{From: "a pod", Outcome: outcome}
	if outcome == explain.Answer {
		view.To = to
	}
	p.Frontends = []explain.FrontendView{{Kind: "ClusterIP", Address: "10.96.0.1:80", Clients: []explain.ClientView{view}},
		{Kind: "NodePort", Address: "172.18.0." + fmt.Sprint(len(node)) + ":30080", Clients: []explain.ClientView{view}}}
	e.Ports = []explain.Port{p}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestExplained: what most nodes say is said once, and of the others what differs.
func TestExplained(t *testing.T) {
	all := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}
	var answers []Answer
	for i := range 48 {
		node := fmt.Sprintf("node-%d", i+10)
		answers = append(answers, Answer{Node: node, Out: explained(t, node, all, explain.Answer, true)})
	}
	write := func(more ...Answer) string {
		t.Helper()
		var b strings.Builder
		if err := WriteExplained(&b, append(more, answers...), explain.Style{}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := write(); !strings.HasSuffix(got, "The kernel holds just that.\nThe same on all 48 nodes; these are node-10's words.\n") {
		t.Errorf("all say the same:\n%s", got)
	}
	got := write(
		Answer{Node: "node-7", Out: explained(t, "node-7", all[:1], explain.Answer, true)},
		Answer{Node: "node-8", Out: explained(t, "node-8", all, explain.Refused, false)},
		Answer{Node: "node-9", Code: 2, Errors: "nftproxy: there is no Service demo/web with a ClusterIP\n"},
		Answer{Node: "evil\x1b[2J", Err: errors.New("no\x1b[2J way")},
		Answer{Node: "node-6", Out: "{"})
	for _, want := range []string{
		"The same on 48 nodes; these are node-10's words.\n",
		"node-7 differs: 2 endpoints missing: 80/tcp over ip 10.0.0.2:80, 80/tcp over ip 10.0.0.3:80\n",
		"node-8 differs: 80/tcp over ip, ClusterIP 10.96.0.1:80, from a pod: refused; 80/tcp over ip, NodePort 30080, from a pod: refused; the kernel: does not hold just that: 0 differences\n",
		"node-9: there is no Service demo/web with a ClusterIP\n",
		`evil\x1b[2J: no\x1b[2J way` + "\n",
		"node-6: read the explanation: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "differs"); n != 2 {
		t.Errorf("%d nodes differ:\n%s", n, got)
	}
}

// TestAges: for how long a difference stands is by the nodes' own clocks, and as exact as the nodes know it.
func TestAges(t *testing.T) {
	all := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}
	// answer is a node's whose clock is ahead, and which tells what came and went how many seconds ago.
	answer := func(node string, ahead time.Duration, used []string, outcome explain.Outcome, began, unnamed int, came, went map[string]int) Answer {
		now := time.Date(2026, 11, 29, 2, 58, 0, 0, time.UTC).Add(ahead)
		ago := func(s int) time.Time { return now.Add(-time.Duration(s) * time.Second) }
		var e explain.Explanation
		if err := json.Unmarshal([]byte(explained(t, node, used, outcome, true)), &e); err != nil {
			t.Fatal(err)
		}
		e.History = &explain.History{At: now, From: ago(began)}
		if unnamed > 0 {
			e.History.Unnamed = ago(unnamed)
		}
		for a, s := range came {
			e.History.Came = append(e.History.Came, explain.Turn{Family: "ip", Address: a, At: ago(s)})
		}
		for a, s := range went {
			e.History.Went = append(e.History.Went, explain.Turn{Family: "ip", Address: a, At: ago(s)})
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return Answer{Node: node, Out: string(text)}
	}
	two := map[string]int{all[1]: 40, all[2]: 40}
	for _, tt := range []struct {
		name string
		most map[string]int // came there
		here Answer
		want string
	}{
		{"the others have them for that long", two, answer("odd", time.Hour, all[:1], explain.Answer, 9000, 0, nil, nil), "odd differs: 2 endpoints missing for 40 s: "},
		{"this one has lost them", nil, answer("odd", -time.Hour, all[:1], explain.Answer, 9000, 0, nil, map[string]int{all[1]: 3, all[2]: 3}), "2 endpoints missing for 3.0 s: "},
		{"one after the other", map[string]int{all[1]: 40, all[2]: 100}, answer("odd", 0, all[:1], explain.Answer, 9000, 0, nil, nil), "2 endpoints missing for 40 s to 100 s: "},
		{"nobody knows since when", nil, answer("odd", 0, all[:1], explain.Answer, 300, 0, nil, nil), "2 endpoints missing for at least 5 min: "},
		{"something was not named", two, answer("odd", 0, all[:1], explain.Answer, 9000, 20, nil, nil), "2 endpoints missing for at least 20 s: "},
		{"one more", nil, answer("odd", 0, append([]string{"10.0.0.9:80"}, all...), explain.Answer, 9000, 0, map[string]int{"10.0.0.9:80": 11}, nil), "1 endpoint more for 11 s: "},
		{"another outcome", nil, answer("odd", 0, all, explain.Refused, 60, 0, nil, nil), "from a pod: refused, for at least 60 s\n"},
	} {
		var b strings.Builder
		answers := []Answer{tt.here}
		for i := range 3 {
			answers = append(answers, answer(fmt.Sprintf("node-%d", i), time.Duration(i)*time.Minute, all, explain.Answer, 7200, 0, tt.most, nil))
		}
		if err := WriteExplained(&b, answers, explain.Style{}); err != nil || !strings.Contains(b.String(), tt.want) {
			t.Errorf("%s: %v, no %q in\n%s", tt.name, err, tt.want, &b)
		}
	}
	for d, want := range map[time.Duration]string{400 * time.Millisecond: "0.4 s", 119 * time.Second: "119 s", 10 * time.Minute: "10 min", 3 * time.Hour: "3 h", 100 * time.Hour: "4 days"} {
		if got := duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestText: what nodes write in the same words is written once, those of the most first, and nothing of it controls a terminal.
func TestText(t *testing.T) {
	answers := []Answer{{Node: "a", Out: "equal\n"}, {Node: "b", Out: "missing\x1b[2J\n", Code: 1}, {Node: "c", Out: "equal\n"}, {Node: "d", Err: errors.New("gone")}}
	var b strings.Builder
	if err := WriteText(&b, answers); err != nil {
		t.Fatal(err)
	}
	if want := "a, c:\nequal\n\nb:\nmissing\\x1b[2J\n\nd:\ngone\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
	if code := Code(answers); code != 2 {
		t.Errorf("the exit code is %d", code)
	}
	if code := Code(answers[:3]); code != 1 {
		t.Errorf("without the error it is %d", code)
	}
	b.Reset()
	if err := WriteText(&b, answers[:1:1]); err != nil || b.String() != "a:\nequal\n" {
		t.Errorf("of one node: %v, %q", err, &b)
	}
	b.Reset()
	if err := WriteJSON(&b, []Answer{{Node: "a", Out: `{"equal": true}`}, {Node: "b", Out: "no", Code: 2}}); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Nodes []struct {
			Node   string
			Answer struct{ Equal bool }
			Error  string
		}
	}
	if err := json.Unmarshal([]byte(b.String()), &doc); err != nil || len(doc.Nodes) != 2 || !doc.Nodes[0].Answer.Equal || doc.Nodes[1].Error == "" {
		t.Errorf("as JSON: %v, %s", err, &b)
	}
}

// TestAsk: answers come in the pods' order, not all at once, and one without an end is cut off.
func TestAsk(t *testing.T) {
	var now, most atomic.Int32
	pods := make([]Pod, 100)
	for i := range pods {
		pods[i].Node = fmt.Sprint(i)
	}
	answers := Ask(t.Context(), pods, func(_ context.Context, p Pod, stdout, _ io.Writer) (int, error) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		if p.Node != "50" {
			fmt.Fprint(stdout, p.Node)
			return 0, nil
		}
		for {
			if _, err := stdout.Write(make([]byte, 1<<20)); err != nil {
				return 0, err
			}
		}
	})
	for i, a := range answers {
		if i != 50 && (a.Out != fmt.Sprint(i) || a.Err != nil) || i == 50 && !errors.Is(a.Err, errTooLong) {
			t.Errorf("answer %d: %.20q, %v", i, a.Out, a.Err)
		}
	}
	if most.Load() > atOnce {
		t.Errorf("%d are asked at once", most.Load())
	}
}
