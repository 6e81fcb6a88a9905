// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestRecords: what was done to the tables is remembered, and what for.
func TestRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "http:80"), endpoints("a", "web", "http:8080", "10.0.0.1 10.0.0.2"))
		n.UpdateEndpointSlice(endpoints("a", "web", "http:8080", "10.0.0.2 10.0.0.3 10.0.0.4"))
		synctest.Wait()
		list := n.Records(0, 10)
		if len(list) != 2 || list[0].Why != "start" || list[0].ServicePorts != 1 || list[0].Operations == 0 || list[1].Number != 2 {
			t.Fatalf("%+v", list)
		}
		got := fmt.Sprint(list[1].Why, list[1].Ports)
		const want = "changes of Services and endpoints[{default/web:http (ip) 3 [10.0.0.3:8080 10.0.0.4:8080] [10.0.0.1:8080] 2 1 [] [] 0 0}]"
		if got != want {
			t.Errorf("recorded\n%s\nwant\n%s", got, want)
		}
		if c := list[1].Causes; c.Count != 1 || len(c.List) != 1 || c.List[0].Kind != "EndpointSlice" || c.List[0].String() != "default/a" || c.List[0].What != "changed" {
			t.Errorf("its causes are %+v", c)
		}
		n.UpdateService(service("web", "10.96.0.2", "http:80"))
		synctest.Wait()
		n.DeleteService("default", "web")
		synctest.Wait()
		list = n.Records(2, 10)
		if len(list) != 2 || fmt.Sprint(list[0].Ports[0].Begun, list[0].Ports[0].Ended, list[1].Ports[0].Ended) != "[10.96.0.2:80/tcp] [10.96.0.1:80/tcp] [10.96.0.2:80/tcp]" ||
			list[0].Causes.List[0].What != "changed" || list[1].Causes.List[0].What != "went" || list[1].Ports[0].WentCount != 3 {
			t.Errorf("a Service's address, and its end: %+v", list)
		}
		if list := n.Records(1, 1); len(list) != 1 || list[0].Number != 2 {
			t.Errorf("after the first: %+v", list)
		}
	})
}

// TestDifferences: others' changes are found, and a repair's end; what was repaired is remembered.
func TestDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		scan := func(things []rules.Thing, to rules.Parts) error { return kernel.Scan("nftproxy", things, to) }
		if _, _, err := proxier.Inspect(n.Proxier).Differences(t.Context(), 10, scan); !errors.Is(err, proxier.ErrNotProgrammed) {
			t.Errorf("before the lists are in: %v", err)
		}
		n.lists(service("web", "10.96.0.1", "http:80"), endpoints("a", "web", "http:8080", "10.0.0.1"))
		if found, ports, err := proxier.Inspect(n.Proxier).Differences(t.Context(), 10, scan); err != nil || len(found.List) != 0 || ports != 1 {
			t.Errorf("%+v, %d service ports, %v", found, ports, err)
		}
		time.Sleep(2 * time.Minute) // what was written is read back
		single := rules.SetID{Kind: rules.Single}
		kernel.Tamper(func(s *rules.State) { clear(s.Tables[rules.IPv4].Sets[single]) })
		found, _, err := proxier.Inspect(n.Proxier).Differences(t.Context(), 10, scan)
		if err != nil || len(found.List) != 1 || found.Counts[rules.Missing] != 1 || found.List[0].Object != "element of single: 10.96.0.1 . tcp . 80 : 10.0.0.1 . 8080" {
			t.Errorf("an element is missing: %+v, %v", found, err)
		}
		scans := 0
		if found, _, err := proxier.Inspect(n.Proxier).Differences(t.Context(), 10, func(things []rules.Thing, to rules.Parts) error {
			if scans++; scans == 2 { // meanwhile it is repaired
				time.Sleep(time.Hour)
			}
			return scan(things, to)
		}); err != nil || len(found.List) != 0 || scans != 2 {
			t.Errorf("after %d scans: %+v, %v", scans, found, err)
		}
		if d := proxier.Inspect(n.Proxier).Drift(); d.Compared.Before(time.Now().Add(-time.Hour)) || d.Repairs != 1 || d.Unequal != "" {
			t.Errorf("%+v", d)
		}
	})
}

// TestRecordsAreBounded: the newest stay.
func TestRecordsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"))
		const changes = 1100
		for i := range changes {
			n.UpdateEndpointSlice(endpoints("a", "web", "8080", fmt.Sprintf("10.0.%d.%d", i/200, 1+i%200)))
			time.Sleep(time.Second) // commits are paced
			synctest.Wait()
		}
		list := n.Records(0, changes)
		if len(list) != 1000 || list[0].Number+999 != list[999].Number || list[999].Number < changes {
			t.Errorf("%d records", len(list))
		}
		if last := list[999].Ports; len(last) != 1 || last[0].Came[0].String() != "10.0.5.100:8080" {
			t.Errorf("the newest is %+v", list[999])
		}
	})
}

// TestRefusedPorts: what the kernel refuses is known until it takes it or it is gone.
func TestRefusedPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
		kernel.Refuse(func(op rules.Op) bool { return len(op.Elements) > 0 })
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
		synctest.Wait()
		list := n.Refused()
		if len(list) != 1 || list[0].Owner.Name != "web" || list[0].Why == "" || !list[0].NextTry.After(list[0].Since) {
			t.Fatalf("refused are %+v", list)
		}
		records := n.Records(0, 10)
		if last := records[len(records)-1]; last.Refused == "" {
			t.Errorf("the last record says nothing of it: %+v", last)
		}
		kernel.Refuse(nil)
		n.ReplaceServices([]*corev1.Service{})
		synctest.Wait()
		if list := n.Refused(); len(list) != 0 {
			t.Errorf("it is gone, and refused are %+v", list)
		}
	})
}

// TestConflictsOf: a Service's conflicts are those that the log tells of.
func TestConflictsOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(created(service("new", "10.96.0.1", "80", "81"), 200), created(service("old", "10.96.0.1", "80"), 100))
		list := n.Conflicts("default", "new")
		if len(list) != 1 || list[0].Frontend != "10.96.0.1:80/tcp" || list[0].Holder.Name != "old" || list[0].Why.Code.String() != "older-service" {
			t.Errorf("%+v", list)
		}
		if list := n.Conflicts("default", "old"); len(list) != 0 {
			t.Errorf("the older one's are %+v", list)
		}
	})
}
